//! Memory and tables as wasmer sees them: what it asks for when it makes an instance.
#![allow(unsafe_code, reason = "wasmer's traits for memories and tables are unsafe to implement")]

use std::{ptr::NonNull, sync::Arc};

use wasmer::{MemoryError, MemoryStyle, MemoryType, Pages, TableStyle, TableType, WASM_PAGE_SIZE};
use wasmer_compiler::{BaseTunables, Tunables};
use wasmer_vm::{LinearMemory, VMConfig, VMMemory, VMMemoryDefinition, VMTable, VMTableDefinition};

use super::Slot;
use crate::{headroom, image::Image};

/// The memory of an instance.
#[derive(Debug)]
struct GuestMemory {
    slot: Arc<Slot>,
    ty: MemoryType,
    /// Inside the instance, which owns this memory.
    definition: NonNull<VMMemoryDefinition>,
}

// SAFETY: the definition belongs to the instance that owns this memory; both are only used by the thread that runs it.
unsafe impl Send for GuestMemory {}
// SAFETY: as above.
unsafe impl Sync for GuestMemory {}

impl LinearMemory for GuestMemory {
    fn ty(&self) -> MemoryType {
        MemoryType { minimum: self.size(), ..self.ty }
    }

    fn size(&self) -> Pages {
        Pages(u32::try_from(self.slot.length() / WASM_PAGE_SIZE).unwrap_or(u32::MAX))
    }

    fn style(&self) -> MemoryStyle {
        MemoryStyle::Static
    }

    fn grow(&mut self, delta: Pages) -> Result<Pages, MemoryError> {
        let current = self.size();
        let refusal = MemoryError::CouldNotGrow { current, attempted_delta: delta };
        let wanted = current.checked_add(delta).ok_or_else(|| refusal.clone())?;
        if self.ty.maximum.is_some_and(|maximum| wanted > maximum) || !self.slot.allows(wanted.0) {
            return Err(refusal);
        }
        self.slot.grow_to(wanted.bytes().0).map_err(|error| MemoryError::Region(error.to_string()))?;
        Ok(current)
    }

    fn vmmemory(&self) -> NonNull<VMMemoryDefinition> {
        self.definition
    }

    fn try_clone(&self) -> Result<Box<dyn LinearMemory + Send + Sync>, MemoryError> {
        Err(MemoryError::MemoryNotShared)
    }

    fn copy(&self) -> Result<Box<dyn LinearMemory + Send + Sync>, MemoryError> {
        Err(MemoryError::UnsupportedOperation { message: "a guest's memory is not copied".to_owned() })
    }
}

/// What wasmer asks when it makes an instance: the slot of its memory, the image in it, and the bounds of the rest.
pub(crate) struct SlotTunables {
    slot: Arc<Slot>,
    image: Arc<Image>,
    table_elements: u32,
    vm: VMConfig,
    base: BaseTunables,
}

impl SlotTunables {
    pub(crate) fn new(slot: Arc<Slot>, image: Arc<Image>, table_elements: u32, stack_bytes: usize) -> Self {
        // What is kept free of it is not the guest's.
        let vm = VMConfig { wasm_stack_size: Some(stack_bytes + headroom::BYTES as usize) };
        Self { slot, image, table_elements, vm, base: BaseTunables::new() }
    }
}

impl Tunables for SlotTunables {
    fn memory_style(&self, _: &MemoryType) -> MemoryStyle {
        MemoryStyle::Static
    }

    fn table_style(&self, table: &TableType) -> TableStyle {
        self.base.table_style(table)
    }

    fn create_host_memory(&self, _: &MemoryType, _: &MemoryStyle) -> Result<VMMemory, MemoryError> {
        Err(MemoryError::UnsupportedOperation { message: "the host has no memories".to_owned() })
    }

    unsafe fn create_vm_memory(
        &self,
        ty: &MemoryType,
        _: &MemoryStyle,
        definition: NonNull<VMMemoryDefinition>,
    ) -> Result<VMMemory, MemoryError> {
        // An image that was taken after the initialisation may be of a memory that had grown by then.
        let bytes = ty.minimum.bytes().0.max(self.image.memory_bytes());
        if !self.slot.allows(u32::try_from(bytes / WASM_PAGE_SIZE).unwrap_or(u32::MAX)) {
            return Err(MemoryError::MinimumMemoryTooLarge { min_requested: ty.minimum, max_allowed: Pages(0) });
        }
        if self.slot.length() != 0 {
            return Err(MemoryError::UnsupportedOperation { message: "an instance has one memory".to_owned() });
        }
        let begun = self.slot.begin(bytes, &self.image, definition);
        begun.map_err(|error| MemoryError::Region(error.to_string()))?;
        Ok(VMMemory(Box::new(GuestMemory { slot: Arc::clone(&self.slot), ty: *ty, definition })))
    }

    fn create_host_table(&self, _: &TableType, _: &TableStyle) -> Result<VMTable, String> {
        Err("the host has no tables".to_owned())
    }

    unsafe fn create_vm_table(
        &self,
        ty: &TableType,
        style: &TableStyle,
        definition: NonNull<VMTableDefinition>,
    ) -> Result<VMTable, String> {
        if ty.minimum > self.table_elements {
            return Err(format!("a table of {} elements; at most {} (limits.table)", ty.minimum, self.table_elements));
        }
        let maximum = ty.maximum.map_or(self.table_elements, |maximum| maximum.min(self.table_elements));
        let limited = TableType { maximum: Some(maximum), ..*ty };
        // SAFETY: as promised by our caller.
        unsafe { self.base.create_vm_table(&limited, style, definition) }
    }

    fn vmconfig(&self) -> &VMConfig {
        &self.vm
    }
}

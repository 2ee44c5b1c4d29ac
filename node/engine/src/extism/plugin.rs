//! What a plug-in has of its host during a call: blocks, input, output, an error, variables, and how its requests went.

use std::collections::BTreeMap;

use bytes::Bytes;
use skein_proto::{ErrorCode, Failure};

use super::blocks::Blocks;

/// Longest text of an error that is passed on.
const MESSAGE_BYTES_MAX: usize = 4 << 10;
/// Most bytes of all variables with their names, as in Extism's own runtime.
const VARIABLES_BYTES_MAX: u64 = 1 << 20;
/// What a variable is charged for besides its name and value, as there.
const VARIABLE_OVERHEAD: u64 = 48;

/// The state of one plug-in. Only the variables outlive a call, and those only where instances are reused.
#[derive(Debug, Default)]
pub(crate) struct Plugin {
    is_active: bool,
    pub(super) blocks: Blocks,
    pub(super) input: Region,
    pub(super) output: Kept,
    error: Kept,
    variables: BTreeMap<String, Bytes>,
    variables_charged: u64,
    /// The status of the last response, and its headers as JSON.
    pub(super) response: Option<(u16, Bytes)>,
    /// Why the last service asked for failed, if it did.
    pub(super) failure: Option<Failure>,
    ended: Option<Ended>,
}

/// Why a host function ended the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It cannot go on, with what the caller is told.
    Failed(ErrorCode, String),
    /// There is no more memory for it.
    Memory,
}

/// What a plug-in and its host say of a call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// The result, if it ended well.
    Output(Bytes),
    /// That it did not end well.
    Ended(Ended),
}

/// A part of the plug-in's memory.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Region {
    pub(super) at: u64,
    pub(super) length: u64,
}

/// A part of the memory whose bytes at the end count, even if the guest has freed it by then.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) region: Region,
    /// The bytes, once they are freed.
    freed: Option<Bytes>,
}

impl Kept {
    fn set(&mut self, at: u64, length: u64) {
        *self = Self { region: Region { at, length }, freed: None };
    }

    /// The block at `start`, which was `bytes`, is freed.
    fn free(&mut self, start: u64, bytes: &Bytes) {
        let Region { at, length } = self.region;
        let from = at.checked_sub(start).and_then(|from| usize::try_from(from).ok());
        let range = from.and_then(|from| Some(from..from.checked_add(usize::try_from(length).ok()?)?));
        if self.freed.is_none()
            && let Some(range) = range.filter(|range| range.end <= bytes.len() && range.start < range.end)
        {
            // A copy, so that a small part does not hold a large block that is no longer charged for.
            self.freed = Some(Bytes::copy_from_slice(&bytes[range]));
        }
    }
}

impl Plugin {
    /// True if the guest is a plug-in, and in a call: its stdout is no result then.
    pub(crate) fn is_active(&self) -> bool {
        self.is_active
    }

    /// Forgets the call before, and the variables unless it `keeps` them.
    pub(crate) fn forget(&mut self, keeps_variables: bool) {
        let (variables, charged) = if keeps_variables {
            (std::mem::take(&mut self.variables), self.variables_charged)
        } else {
            Default::default()
        };
        *self = Self { variables, variables_charged: charged, ..Self::default() };
    }

    /// Starts a call with `input`.
    pub(crate) fn begin(&mut self, input: Bytes) {
        self.is_active = true;
        let length = input.len() as u64;
        // The payload is held anyway and has its own limit: it is charged for, but not refused.
        let at = self.blocks.insert(input, u64::MAX).unwrap_or(0);
        self.input = Region { at, length };
    }

    /// What the plug-in uses of its memory limit besides linear memory, in bytes.
    pub(crate) fn charged(&self) -> u64 {
        self.blocks.charged() + self.variables_charged
    }

    /// Frees a block and gives its bytes back.
    pub(super) fn free(&mut self, handle: u64) -> Option<Bytes> {
        let bytes = self.blocks.free(handle)?;
        if self.input.at == handle {
            self.input = Region::default();
        }
        self.output.free(handle, &bytes);
        self.error.free(handle, &bytes);
        Some(bytes)
    }

    /// Forgets input, output, error and every block, as a guest may ask for.
    pub(super) fn reset(&mut self) {
        self.blocks.clear();
        self.input = Region::default();
        self.output = Kept::default();
        self.error = Kept::default();
    }

    /// Where the input is, as the guest may choose.
    pub(super) fn set_input(&mut self, at: u64, length: u64) {
        if self.blocks.range(at, length).is_some() {
            self.input = Region { at, length };
        }
    }

    /// The address of the input's byte at `offset`, if `width` bytes of the input start there.
    pub(super) fn input_at(&self, offset: u64, width: u64) -> Option<u64> {
        let end = offset.checked_add(width)?;
        (end <= self.input.length).then(|| self.input.at + offset)
    }

    /// Says what the result is; false if that is not in a live block. Nothing at 0 is what a failed allocation gives, and
    /// says nothing.
    pub(super) fn set_output(&mut self, at: u64, length: u64) -> bool {
        if at == 0 && length == 0 {
            return true;
        }
        let is_known = self.blocks.range(at, length).is_some();
        if is_known {
            self.output.set(at, length);
        }
        is_known
    }

    /// Says what went wrong; 0 takes it back.
    pub(super) fn set_error(&mut self, handle: u64) {
        self.error.set(handle, self.blocks.length(handle).min(MESSAGE_BYTES_MAX as u64));
    }

    /// The handle of what went wrong, or 0.
    pub(super) fn error(&self) -> u64 {
        self.error.region.at
    }

    pub(super) fn variable(&self, name: &str) -> Option<Bytes> {
        self.variables.get(name).cloned()
    }

    pub(super) fn remove_variable(&mut self, name: &str) {
        if let Some((name, value)) = self.variables.remove_entry(name) {
            self.variables_charged -= variable_charge(&name, &value);
        }
    }

    /// Sets a variable; false if there is no more room for it.
    pub(super) fn set_variable(&mut self, name: &str, value: &Bytes, room: u64) -> bool {
        let charge = variable_charge(name, value);
        let before = self.variables.get(name).map_or(0, |value| variable_charge(name, value));
        let charged = self.variables_charged - before + charge;
        if charged > VARIABLES_BYTES_MAX || charge > room {
            return false;
        }
        // A copy, for the same reason as in `Kept::free`: a value may be a part of a payload.
        self.variables.insert(name.to_owned(), Bytes::copy_from_slice(value));
        self.variables_charged = charged;
        true
    }

    /// Notes why a host function ends the call.
    pub(super) fn end(&mut self, ended: Ended) {
        self.ended = Some(ended);
    }

    /// What the plug-in said went wrong, if it did.
    fn take_error(&mut self) -> Option<String> {
        let Kept { region: Region { at, length }, freed } = std::mem::take(&mut self.error);
        if at == 0 {
            return None;
        }
        let bytes = freed.as_deref().or_else(|| self.blocks.range(at, length)).unwrap_or_default();
        let mut text = String::from_utf8_lossy(bytes).trim_end().to_owned();
        text.truncate(text.floor_char_boundary(MESSAGE_BYTES_MAX));
        if text.is_empty() {
            text.push_str("the function failed, and says no more");
        }
        Some(text)
    }

    /// What there is to say of the call, whose function returned `code` or did not return. An error said counts whatever
    /// the code, as in Extism's own runtime; the host's word counts more.
    pub(crate) fn take_told(&mut self, code: Option<i32>) -> Told {
        if let Some(ended) = self.ended.take() {
            return Told::Ended(ended);
        }
        if let Some(error) = self.take_error() {
            return Told::Ended(Ended::Failed(ErrorCode::FunctionFailed, error));
        }
        if code.is_some_and(|code| code != 0) {
            return Told::Output(Bytes::new());
        }
        let Kept { region: Region { at, length }, freed } = std::mem::take(&mut self.output);
        Told::Output(freed.or_else(|| self.blocks.take(at, length)).unwrap_or_default())
    }
}

fn variable_charge(name: &str, value: &[u8]) -> u64 {
    name.len() as u64 + value.len() as u64 + VARIABLE_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: u64 = 64 << 20;

    fn with(input: &'static str) -> Plugin {
        let mut plugin = Plugin::default();
        plugin.begin(Bytes::from_static(input.as_bytes()));
        plugin
    }

    fn block(plugin: &mut Plugin, text: &'static str) -> u64 {
        plugin.blocks.insert(Bytes::from_static(text.as_bytes()), ROOM).unwrap()
    }

    #[test]
    fn a_part_of_any_block_is_a_result_even_after_it_is_freed() {
        let mut plugin = with("the input");
        assert!(plugin.set_output(plugin.input.at + 4, 5));
        assert_eq!(plugin.take_told(Some(0)), Told::Output("input".into()));
        let mut plugin = with("the input");
        let at = plugin.input.at;
        assert!(plugin.set_output(at, 3));
        plugin.free(at);
        assert_eq!((plugin.input.length, plugin.take_told(Some(0))), (0, Told::Output("the".into())));
        assert_eq!(with("x").take_told(Some(0)), Told::Output(Bytes::new()), "nothing set is nothing");
    }

    #[test]
    fn a_result_that_is_no_block_is_refused() {
        let mut plugin = with("input");
        let (at, gone) = (plugin.input.at, block(&mut plugin, "gone"));
        plugin.free(gone);
        for (at, length) in [(0, 1), (at, 6), (at + 5, 1), (gone, 4), (1 << 33, 4), (at, u64::MAX), (u64::MAX, 1)] {
            assert!(!plugin.set_output(at, length), "{at} {length}");
        }
        assert!(plugin.set_output(0, 0), "what an allocation of nothing gives");
        assert!(plugin.set_output(at + 1, 0));
        assert_eq!(plugin.take_told(Some(0)), Told::Output(Bytes::new()));
    }

    #[test]
    fn an_error_said_counts_whatever_the_code_until_it_is_taken_back() {
        for code in [Some(0), Some(7), None] {
            let mut plugin = with("");
            let text = block(&mut plugin, "no such price\n");
            plugin.set_error(text);
            plugin.free(text);
            let failed = Ended::Failed(ErrorCode::FunctionFailed, "no such price".to_owned());
            assert_eq!(plugin.take_told(code), Told::Ended(failed));
        }
        let mut plugin = with("input");
        plugin.set_error(plugin.input.at);
        plugin.set_error(0);
        assert_eq!(plugin.take_told(Some(7)), Told::Output(Bytes::new()));
        plugin.set_error(12_345);
        assert!(plugin.take_error().is_some_and(|text| text.contains("says no more")));
        plugin.set_error(plugin.input.at);
        assert_eq!(plugin.take_error(), Some("input".to_owned()));
        let long = plugin.blocks.insert("ü".repeat(5_000).into(), ROOM).unwrap();
        plugin.set_error(long);
        assert_eq!(plugin.take_error().map(|text| text.len()), Some(MESSAGE_BYTES_MAX));
    }

    #[test]
    fn variables_are_bounded_and_stay_only_where_they_are_kept() {
        let mut plugin = with("");
        let value = Bytes::from(vec![7; 1 << 19]);
        assert!(plugin.set_variable("a", &value, ROOM) && !plugin.set_variable("b", &value, ROOM));
        assert!(plugin.set_variable("a", &value, ROOM), "replacing takes no more");
        assert!(!plugin.set_variable("c", &Bytes::from_static(b"1"), 10), "the memory limit counts too");
        assert_eq!(plugin.charged(), variable_charge("a", &value));
        plugin.forget(true);
        assert_eq!((plugin.variable("a"), plugin.is_active()), (Some(value), false));
        plugin.remove_variable("a");
        plugin.remove_variable("a");
        assert_eq!((plugin.variable("a"), plugin.charged()), (None, 0));
        plugin.set_variable("a", &Bytes::from_static(b"1"), ROOM);
        plugin.forget(false);
        assert_eq!((plugin.variable("a"), plugin.charged()), (None, 0));
    }

    #[test]
    fn input_ends_where_it_ends() {
        let mut plugin = with("12345678");
        let at = plugin.input.at;
        assert_eq!(
            (plugin.input_at(0, 8), plugin.input_at(1, 8), plugin.input_at(7, 1)),
            (Some(at), None, Some(at + 7))
        );
        assert_eq!((plugin.input_at(8, 1), plugin.input_at(u64::MAX, 8)), (None, None));
        plugin.set_input(at + 4, 4);
        assert_eq!(plugin.input_at(0, 1), Some(at + 4));
        plugin.set_input(at + 4, 5);
        assert_eq!(plugin.input.length, 4, "what is no block changes nothing");
        plugin.reset();
        assert_eq!((plugin.input_at(0, 1), plugin.charged()), (None, 0));
    }
}

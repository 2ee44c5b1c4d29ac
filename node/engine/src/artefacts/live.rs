//! The code of one module as long as somebody has it loaded.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use arc_swap::{ArcSwap, Guard};

use crate::{ModuleReport, Tier, code::Code};

/// Code that may become better while it is used.
#[derive(Debug)]
pub(crate) struct LiveCode {
    report: ModuleReport,
    code: ArcSwap<Code>,
    is_optimised: AtomicBool,
}

impl LiveCode {
    pub(super) fn new(report: ModuleReport, tier: Tier, code: Code) -> Self {
        let is_optimised = AtomicBool::new(tier == Tier::Optimised);
        Self { report, code: ArcSwap::from_pointee(code), is_optimised }
    }

    /// What inspecting the module found.
    pub(crate) fn report(&self) -> &ModuleReport {
        &self.report
    }

    /// The code for the next instance. Whoever makes one keeps an `Arc` of what it was made of as long as the instance:
    /// the code it runs stays mapped by that alone. Two loads give the same `Arc` unless better code came in between.
    pub(crate) fn code(&self) -> Guard<Arc<Code>> {
        self.code.load()
    }

    /// The tier of [`LiveCode::code`].
    pub(crate) fn tier(&self) -> Tier {
        if self.is_optimised.load(Ordering::Acquire) { Tier::Optimised } else { Tier::Baseline }
    }

    /// What the code takes of memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.code.load().bytes()
    }

    /// Takes better code for the instances to come; false if it is no better.
    pub(super) fn improve(&self, tier: Tier, code: Code) -> bool {
        if tier == Tier::Baseline || self.is_optimised.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.code.store(Arc::new(code));
        true
    }
}

//! The tiers of machine code.

use serde::{Deserialize, Serialize};

/// How well a module is compiled. The later one is the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Tier {
    /// Compiled in one pass: there in a tenth of the time, and runs at a half to a quarter of the speed.
    Baseline,
    /// Compiled by an optimising compiler.
    Optimised,
}

impl Tier {
    /// Its name, as metrics and logs have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Optimised => "optimised",
        }
    }
}

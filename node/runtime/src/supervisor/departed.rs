//! Why versions that were live are not any more: what a call that finds one cold is told.

use std::collections::{HashMap, VecDeque};

use skein_proto::{ColdCause, VersionId};

/// The last reason of each version that left lately.
#[derive(Default)]
pub(super) struct Departed {
    causes: HashMap<VersionId, ColdCause>,
    /// In the order they left; some have come back since.
    order: VecDeque<VersionId>,
}

impl Departed {
    /// Notes that a version left.
    pub(super) fn note(&mut self, version: VersionId, cause: ColdCause) {
        self.causes.insert(version, cause);
        self.order.push_back(version);
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.causes.remove(&oldest);
        }
    }

    /// Why a version that is started now has to be.
    pub(super) fn cause(&mut self, version: VersionId) -> ColdCause {
        self.causes.remove(&version).unwrap_or(ColdCause::First)
    }
}

/// Departures remembered: more versions than a mesh is meant to hold, in less than a MiB.
const REMEMBERED_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use skein_proto::FunctionId;

    use super::*;

    #[test]
    fn a_version_is_told_once_why_it_left_and_old_departures_are_forgotten() {
        let version = |number| VersionId { function: FunctionId(1), number };
        let mut departed = Departed::default();
        departed.note(version(0), ColdCause::Idle);
        departed.note(version(0), ColdCause::Memory);
        assert_eq!(departed.cause(version(0)), ColdCause::Memory);
        assert_eq!(departed.cause(version(0)), ColdCause::First);
        for number in 0..=REMEMBERED_MAX as u64 {
            departed.note(version(number), ColdCause::Idle);
        }
        assert_eq!(departed.cause(version(0)), ColdCause::First);
        assert_eq!(departed.cause(version(9)), ColdCause::Idle);
        assert!(departed.order.len() <= REMEMBERED_MAX);
    }
}

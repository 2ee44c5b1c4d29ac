//! Why versions that were live are not any more: what a call that finds one cold is told.

use std::collections::{HashMap, VecDeque};

use skein_proto::{ColdCause, VersionId};

/// The last reason of each version that left lately.
#[derive(Default)]
pub(super) struct Departed {
    /// Each with the number of its departure.
    causes: HashMap<VersionId, (u64, ColdCause)>,
    /// In the order they left; some have come back since, and some have left again.
    order: VecDeque<(u64, VersionId)>,
    departures: u64,
}

impl Departed {
    /// Notes that a version left.
    pub(super) fn note(&mut self, version: VersionId, cause: ColdCause) {
        self.departures += 1;
        self.causes.insert(version, (self.departures, cause));
        self.order.push_back((self.departures, version));
        if self.order.len() > REMEMBERED_MAX
            && let Some((oldest, version)) = self.order.pop_front()
            && self.causes.get(&version).is_some_and(|(departure, _)| *departure == oldest)
        {
            self.causes.remove(&version);
        }
    }

    /// Why a version that is started now has to be.
    pub(super) fn cause(&mut self, version: VersionId) -> ColdCause {
        self.causes.remove(&version).map_or(ColdCause::First, |(_, cause)| cause)
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

    #[test]
    fn a_version_that_left_twice_is_remembered_by_its_last_departure() {
        let version = |number| VersionId { function: FunctionId(1), number };
        let mut departed = Departed::default();
        departed.note(version(0), ColdCause::Idle);
        (1..REMEMBERED_MAX as u64).for_each(|number| departed.note(version(number), ColdCause::Idle));
        departed.note(version(0), ColdCause::Memory);
        assert_eq!(departed.order.len(), REMEMBERED_MAX, "its first departure was forgotten just now");
        assert_eq!(departed.cause(version(0)), ColdCause::Memory);
    }
}

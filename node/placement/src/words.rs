//! What is said of a ranking to whoever asks: rendered only then.

use crate::{Group, Ranked, Reason, Standing};

impl Group {
    /// The word for it in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Cold => "cold",
            Self::Slow => "slow",
            Self::Full => "full",
            Self::Doubtful => "doubtful",
            Self::Out => "out",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Warm => "the version is warm there and there is room",
            Self::Cold => "there is room, but the version is not known to be warm there",
            Self::Slow => "it answered slowly of late, or calls got no answer: behind all others with room",
            Self::Full => {
                "calls wait there or are turned away, or its CPU is busy, or its memory used up: behind all with room"
            }
            Self::Doubtful => "it is silent or could not be reached a moment ago: behind all others",
            Self::Out => "not tried",
        }
    }
}

impl Reason {
    fn words(self) -> &'static str {
        match self {
            Self::InLine => "in line",
            Self::Only => "the only one of its kind",
            Self::Here => "here, and no other is clearly less busy",
            Self::LessLoaded => "the less loaded of two picked at random",
            Self::Home => "the version's home, since memory is short and it is not known to be warm anywhere",
            Self::NextHome => "next to the version's home, which carries more than its share",
            Self::Spread => "cold, and the warm ones are clearly busier",
        }
    }
}

impl Ranked {
    /// Why it has its place, in words.
    pub fn words(&self) -> String {
        match self.candidate.standing {
            Standing::Draining => "not tried: it is leaving and takes no new calls".to_owned(),
            Standing::Unbound => "not tried: the app is bound to other nodes".to_owned(),
            Standing::Dead => "not tried: it is down".to_owned(),
            _ => format!("{}; {}", self.group.meaning(), self.reason.words()),
        }
    }

    /// The figures that it was compared by, in words.
    pub fn figures(&self) -> String {
        let one = &self.candidate;
        let load = one.pressure();
        let (run, wait, cpu) = (one.in_flight, one.line.queued, one.cpu_permille / 10);
        let age = if wait == 0 { String::new() } else { format!(" for up to {} ms", one.line.age_ms) };
        let memory = match one.memory_permille() {
            Some(used) => format!("memory {} % of {} MiB", used / 10, one.memory_budget_mib),
            None => format!("memory {} MiB", one.memory_mib),
        };
        let refused = match (one.is_starved, one.has_refused) {
            (true, _) => ", has just turned a call away for want of memory",
            (false, true) => ", has just turned a call away",
            (false, false) => "",
        };
        format!("load {load} ({run} running, {wait} waiting{age}), CPU {cpu} %, {memory}{refused}")
    }
}

#[cfg(test)]
mod tests {
    use skein_proto::{FunctionId, NodeId, VersionId};

    use super::*;
    use crate::{Candidate, Line, rank};

    #[test]
    fn a_place_is_explained_in_words() {
        let version = VersionId { function: FunctionId(1), number: 1 };
        let candidate = |node, standing| Candidate {
            node: NodeId(node),
            is_here: node == 1,
            is_warm: false,
            has_refused: node == 1,
            is_starved: node == 1,
            standing,
            in_flight: 3,
            line: Line { queued: 2, age_ms: 40 },
            cpu_permille: 125,
            memory_mib: 512,
            memory_budget_mib: 1_024,
        };
        let candidates = [candidate(1, Standing::Good), candidate(2, Standing::Unbound)];
        let ranked = rank(version, candidates, &mut rand::rng());
        assert!(ranked[0].words().starts_with("calls wait there"), "{}", ranked[0].words());
        assert!(ranked[0].words().ends_with("the only one of its kind"), "{}", ranked[0].words());
        assert_eq!(
            ranked[0].figures(),
            "load 15 (3 running, 2 waiting for up to 40 ms), CPU 12 %, memory 50 % of 1024 MiB, has just turned a call away \
             for want of memory"
        );
        assert!(ranked[1].words().contains("bound to other nodes"));
    }
}

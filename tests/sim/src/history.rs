//! What happened in a run, as the properties are asked about it: writes, reads, calls, executions, boots, states.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use skein_proto::{Digest, Failure, NodeId};

use crate::{operator::Errand, world::now};

/// A node from a start to its end: the node and which of its starts it was.
pub type Boot = (NodeId, u64);

/// A publish.
#[derive(Debug, Clone)]
pub struct Write {
    /// By what it is found in the catalogue.
    pub digest: Digest,
    /// Where it was proposed.
    pub boot: Boot,
    /// When.
    pub began: Duration,
    /// When and how it ended: the index it got.
    pub ended: Option<(Duration, Result<u64, Failure>)>,
}

/// A linearizable read.
#[derive(Debug, Clone)]
pub struct Read {
    /// Where.
    pub boot: Boot,
    /// When.
    pub began: Duration,
    /// The index that it saw.
    pub index: u64,
    /// The writes that had been acknowledged before it began and that it did not see.
    pub missed: Vec<usize>,
}

/// A call.
#[derive(Debug, Clone)]
pub struct Call {
    /// Where it was made.
    pub boot: Boot,
    /// When.
    pub began: Duration,
    /// How long it may take.
    pub patience: Duration,
    /// Whether it may run more than once.
    pub is_repeatable: bool,
    /// When and how it ended.
    pub ended: Option<(Duration, Result<NodeId, Failure>)>,
}

/// One execution of a call.
#[derive(Debug, Clone)]
pub struct Execution {
    /// The call.
    pub call: usize,
    /// Where.
    pub boot: Boot,
    /// Whether it came to an end, or was taken back.
    pub has_ended: bool,
}

/// How a boot ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By a power cut.
    Crash,
    /// By a kill of the process.
    Kill,
    /// In order.
    Left,
}

/// All of it, in the order in which it happened.
#[derive(Debug, Default, Clone)]
pub struct Events {
    /// Publishes.
    pub writes: Vec<Write>,
    /// Reads.
    pub reads: Vec<Read>,
    /// Calls.
    pub calls: Vec<Call>,
    /// Executions.
    pub executions: Vec<Execution>,
    /// Every start of a node, and its end.
    pub boots: BTreeMap<Boot, Option<End>>,
    /// The digests of the state at each index, with who had them.
    pub states: BTreeMap<u64, BTreeMap<u64, NodeId>>,
    /// What operators asked for and got.
    pub granted: Vec<Errand>,
    /// Copies of code that were made because there were too few.
    pub copied: usize,
    /// What is wrong whatever else happened.
    pub faults: Vec<String>,
}

/// The record, written by all nodes. What a node says after its end is not heard.
#[derive(Debug, Default)]
pub struct History {
    events: Mutex<Events>,
    trace: Mutex<DefaultHasher>,
}

impl History {
    /// What happened so far.
    pub fn events(&self) -> Events {
        self.lock().clone()
    }

    /// Adds to what two runs of one seed must have in common.
    pub fn trace(&self, what: u64) {
        (now(), what).hash(&mut *self.trace.lock().unwrap());
    }

    /// The digest of all that was traced.
    pub fn digest(&self) -> u64 {
        self.trace.lock().unwrap().finish()
    }

    /// A node starts: which of its starts it is.
    pub fn starts(&self, node: NodeId) -> u64 {
        let mut events = self.lock();
        let number = 1 + events.boots.keys().filter(|(other, _)| *other == node).count() as u64;
        events.boots.insert((node, number), None);
        number
    }

    /// The latest boot of a node ends, if it has not.
    pub fn ends(&self, node: NodeId, how: End) {
        let mut events = self.lock();
        let last = events.boots.range_mut((node, 0)..=(node, u64::MAX)).next_back();
        if let Some((_, end @ None)) = last {
            *end = Some(how);
        }
    }

    /// Whether a boot has been neither killed nor cut off the power.
    pub fn lives(&self, boot: Boot) -> bool {
        !matches!(self.lock().boots.get(&boot), Some(Some(End::Crash | End::Kill)))
    }

    /// Something is wrong that no property is about.
    pub fn fault(&self, what: String) {
        self.lock().faults.push(what);
    }

    /// A copy of some code was made because there were too few.
    pub fn copied(&self) {
        self.lock().copied += 1;
    }

    /// An operator got what it asked for.
    pub fn granted(&self, errand: Errand) {
        self.lock().granted.push(errand);
    }

    /// A publish begins.
    pub fn write_begins(&self, boot: Boot, digest: impl FnOnce(usize) -> Digest) -> (usize, Digest) {
        let mut events = self.lock();
        let number = events.writes.len();
        let digest = digest(number);
        events.writes.push(Write { digest, boot, began: now(), ended: None });
        (number, digest)
    }

    /// It ends.
    pub fn write_ends(&self, number: usize, outcome: Result<u64, Failure>) {
        self.while_up(
            |write| write.writes[number].boot,
            |events| {
                events.writes[number].ended = Some((now(), outcome));
            },
        );
    }

    /// The writes that have been acknowledged by now.
    pub fn acknowledged(&self) -> Vec<(usize, Digest)> {
        let events = self.lock();
        let acknowledged = |write: &Write| matches!(&write.ended, Some((_, Ok(_))));
        events.writes.iter().enumerate().filter(|(_, write)| acknowledged(write)).map(|(i, w)| (i, w.digest)).collect()
    }

    /// A read has ended well.
    pub fn read(&self, read: Read) {
        self.while_up(|_| read.boot, |events| events.reads.push(read.clone()));
    }

    /// A call begins.
    pub fn call_begins(&self, boot: Boot, patience: Duration, is_repeatable: bool) -> usize {
        let mut events = self.lock();
        events.calls.push(Call { boot, began: now(), patience, is_repeatable, ended: None });
        events.calls.len() - 1
    }

    /// It ends.
    pub fn call_ends(&self, number: usize, outcome: Result<NodeId, Failure>) {
        self.while_up(
            |events| events.calls[number].boot,
            |events| {
                events.calls[number].ended = Some((now(), outcome));
            },
        );
    }

    /// A call is run.
    pub fn runs(&self, call: usize, boot: Boot) -> usize {
        let mut events = self.lock();
        events.executions.push(Execution { call, boot, has_ended: false });
        events.executions.len() - 1
    }

    /// An execution has come to its end, or was taken back by its caller.
    pub fn ran(&self, number: usize) {
        self.while_up(|events| events.executions[number].boot, |events| events.executions[number].has_ended = true);
    }

    /// The digest of the state of a node at an index.
    pub fn state(&self, node: NodeId, index: u64, digest: u64) {
        self.lock().states.entry(index).or_default().entry(digest).or_insert(node);
    }

    /// Changes the record if the boot that it is about is not over.
    fn while_up(&self, boot: impl FnOnce(&Events) -> Boot, change: impl FnOnce(&mut Events)) {
        let mut events = self.lock();
        let boot = boot(&events);
        if events.boots.get(&boot) == Some(&None) {
            change(&mut events);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap()
    }
}

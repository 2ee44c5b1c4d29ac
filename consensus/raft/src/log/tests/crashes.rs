//! The log against a plain vector on a disk that fails: process kills that keep what was not synced, power cuts that
//! tear it, full disks, failing syncs, short descriptors; with caches, segments and frames of a few entries.
//!
//! What was acknowledged must be there after any of them. What was under way may be there, in the order in which it was
//! asked for and up to any point. And what a restart shows is shown for good: nothing later may take it back.

use std::{
    collections::VecDeque,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use proptest::prelude::*;
use rand_v10::{RngExt, SeedableRng, rngs::SmallRng};

use super::{super::writer::copy, *};
const DIR: &str = "/raft/log";

/// What may happen to a log.
#[derive(Debug, Clone)]
enum Event {
    Append(Vec<usize>),
    Truncate {
        back: u64,
    },
    Purge {
        ahead: u64,
    },
    PurgeBeyond {
        gap: u64,
    },
    Vote(u8),
    Commit,
    Close,
    /// It ends in the middle of these, when so many turns of the scheduler have passed.
    Die {
        during: Vec<Event>,
        turns: usize,
        cut: Cut,
    },
    /// All syncs from this one on fail, and then it ends.
    FailSync {
        during: Vec<Event>,
        after: u64,
        cut: Cut,
    },
    /// There is room for so many bytes only, for a while.
    Fill {
        during: Vec<Event>,
        room: usize,
    },
    NoDescriptors {
        during: Vec<Event>,
    },
}

/// What a power cut does to what was not synced, after the process has ended.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// There is none: the system's cache is still there.
    None,
    At(u64),
    /// It comes after the next start, before anything was done there.
    AfterStart(u64),
}

/// What the log must hold, and what it may hold beyond.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    first: u64,
    entries: VecDeque<Bytes>,
    vote: Option<Bytes>,
    purged: Option<Bytes>,
}

fn length() -> impl Strategy<Value = usize> {
    // At the bound of a frame of 64 bytes, one below, one above, and all the others.
    prop_oneof![4 => 8_usize..70, 1 => Just(63), 1 => Just(64), 1 => Just(65), 1 => Just(300)]
}

fn change() -> BoxedStrategy<Event> {
    prop_oneof![
        6 => proptest::collection::vec(length(), 1..9).prop_map(Event::Append),
        2 => (0_u64..12).prop_map(|back| Event::Truncate { back }),
        2 => (1_u64..12).prop_map(|ahead| Event::Purge { ahead }),
        1 => (0_u64..5).prop_map(|gap| Event::PurgeBeyond { gap }),
        1 => any::<u8>().prop_map(Event::Vote),
        1 => Just(Event::Commit),
    ]
    .boxed()
}

fn cut() -> impl Strategy<Value = Cut> {
    prop_oneof![1 => Just(Cut::None), 2 => any::<u64>().prop_map(Cut::At), 2 => any::<u64>().prop_map(Cut::AfterStart)]
}

fn event() -> impl Strategy<Value = Event> {
    let during = || proptest::collection::vec(change(), 1..5);
    prop_oneof![
        16 => change(),
        1 => Just(Event::Close),
        4 => (during(), 0_usize..8, cut()).prop_map(|(during, turns, cut)| Event::Die { during, turns, cut }),
        2 => (during(), 0_u64..4, cut()).prop_map(|(during, after, cut)| Event::FailSync { during, after, cut }),
        1 => (during(), 0_usize..400).prop_map(|(during, room)| Event::Fill { during, room }),
        1 => during().prop_map(|during| Event::NoDescriptors { during }),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    let cache = prop_oneof![Just(0_usize), Just(1), Just(63), Just(64), Just(65), Just(400), Just(1 << 20)];
    let segment = prop_oneof![Just(1_u64), Just(119), Just(120), Just(121), Just(700), Just(1 << 20)];
    let frame = prop_oneof![Just(1_usize), Just(64), Just(200), Just(1 << 20)];
    (cache, segment, frame).prop_map(|(cache_bytes, segment_bytes, frame_bytes)| Limits {
        cache_bytes,
        segment_bytes,
        frame_bytes,
        ..Limits::default()
    })
}

impl Model {
    fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// The states that the log passes through while `event` is done.
    fn apply(&self, event: &Event, salt: u64) -> Vec<Self> {
        let mut after = self.clone();
        match event {
            Event::Append(lengths) => return self.appended(lengths, salt),
            Event::Truncate { back } => {
                let next = self.next().saturating_sub(*back).max(self.first);
                after.entries.truncate((next - self.first) as usize);
            }
            Event::Purge { ahead } => after.purge((self.first + ahead).min(self.next())),
            Event::PurgeBeyond { gap } => after.purge(self.next() + gap),
            Event::Vote(vote) => after.vote = Some(Bytes::from(vec![*vote])),
            _ => {}
        }
        vec![after]
    }

    fn appended(&self, lengths: &[usize], salt: u64) -> Vec<Self> {
        let mut state = self.clone();
        let each = lengths.iter().map(|length| {
            let mut bytes = vec![salt as u8; *length];
            bytes[..8].copy_from_slice(&(state.next() + (salt << 32)).to_le_bytes());
            state.entries.push_back(Bytes::from(bytes));
            state.clone()
        });
        each.collect()
    }

    fn purge(&mut self, first: u64) {
        if first > self.first {
            let gone = ((first - self.first) as usize).min(self.entries.len());
            self.entries.drain(..gone);
            (self.first, self.purged) = (first, Some(Bytes::from(first.to_le_bytes().to_vec())));
        }
    }
}

/// A log, its disk, and what it must hold.
struct Bench {
    disk: TestDisk,
    origin: Origin,
    life: Option<(tokio::runtime::Runtime, Log)>,
    model: Model,
    salt: u64,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        let origin = Origin { limits, ..origin(0) };
        let mut bench = Self { disk: TestDisk::default(), origin, life: None, model: Model::default(), salt: 0 };
        // What lies above is its owner's to keep.
        bench.disk.create_dir_all(Path::new("/raft")).unwrap();
        bench.disk.sync_dir(Path::new("/")).unwrap();
        bench.start();
        bench
    }

    fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let volume: Arc<dyn Volume> = Arc::new(self.disk.clone());
        let log = runtime.block_on(async { Log::open(&volume, Path::new(DIR), &self.origin) });
        self.life = Some((runtime, log.unwrap_or_else(|error| panic!("{error}: {:?}", self.model))));
        self.origin.must_exist = true;
    }

    fn happen(&mut self, event: &Event) {
        self.salt += 1;
        match event {
            Event::Close => {
                let (runtime, log) = self.life.take().unwrap();
                runtime.block_on(log.close()).unwrap();
                drop((log, runtime));
                self.start();
            }
            Event::Die { during, turns, cut } => {
                let possible = self.attempt(during, *turns);
                self.die(possible, *cut);
            }
            Event::FailSync { during, after, cut } => {
                self.disk.fail(Faults { good_syncs: Some(*after), ..Faults::default() });
                let possible = self.attempt(during, 200);
                self.die(possible, *cut);
            }
            Event::Fill { during, room } => {
                self.wait_out(during, Faults { room: Some(*room), ..Faults::default() });
            }
            Event::NoDescriptors { during } => {
                self.wait_out(during, Faults { has_no_descriptors: true, ..Faults::default() });
            }
            change => {
                let (runtime, log) = self.life.as_ref().unwrap();
                let after = self.model.apply(change, self.salt).pop().unwrap();
                runtime.block_on(execute(log, change, &self.model, &after)).unwrap();
                self.model = after;
            }
        }
        self.check();
    }

    /// Begins all of `during`, without waiting for appends, and lets so many turns pass. Returns what the log may hold
    /// then: all from what was acknowledged on.
    fn attempt(&mut self, during: &[Event], turns: usize) -> Vec<Model> {
        let (possible, steps) = self.steps(during);
        let (runtime, log) = self.life.as_ref().unwrap();
        let (log, safe) = (log.clone(), Arc::new(AtomicUsize::new(0)));
        let acknowledged = safe.clone();
        let work = async move {
            for (at, event, before, after) in steps {
                let safe = safe.clone();
                let told = move |result: io::Result<()>| {
                    if result.is_ok() {
                        safe.fetch_max(at, Ordering::Relaxed);
                    }
                };
                let done = match event {
                    Event::Append(_) => log.append(before.next(), appended(&before, &after), told).await,
                    event => {
                        let done = execute(&log, &event, &before, &after).await;
                        // What is done when it returns, is done after all that was asked for before it.
                        let is_waited = before != after || matches!(event, Event::Truncate { .. });
                        if is_waited {
                            told(copy(&done));
                        }
                        done
                    }
                };
                if done.is_err() {
                    break;
                }
            }
        };
        runtime.block_on(async {
            let _work = tokio::spawn(work);
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
        });
        possible[acknowledged.load(Ordering::Relaxed)..].to_vec()
    }

    /// The states that the log passes through, and what is to be done, with the place of the state after it.
    #[expect(clippy::type_complexity, reason = "a row of tuples, taken apart at once")]
    fn steps(&mut self, during: &[Event]) -> (Vec<Model>, Vec<(usize, Event, Model, Model)>) {
        let (mut possible, mut steps) = (vec![self.model.clone()], Vec::new());
        for event in during {
            self.salt += 1;
            let before = possible.last().unwrap().clone();
            possible.extend(before.apply(event, self.salt));
            steps.push((possible.len() - 1, event.clone(), before, possible.last().unwrap().clone()));
        }
        (possible, steps)
    }

    /// Ends the process as it stands, perhaps with a power cut, and starts it again: it must then hold one of these.
    fn die(&mut self, possible: Vec<Model>, cut: Cut) {
        // Tasks end where they wait: between a write and its sync, too.
        self.life = None;
        if let Cut::At(seed) = cut {
            self.cut(seed);
        }
        self.disk.fail(Faults::default());
        self.start();
        let found = self.found();
        assert!(possible.contains(&found), "found {found:?}, possible {possible:?}");
        self.model = found;
        if let Cut::AfterStart(seed) = cut {
            self.life = None;
            self.cut(seed);
            self.start();
            assert_eq!(self.found(), self.model, "a restart showed it, and a cut took it back");
        }
    }

    fn cut(&self, seed: u64) {
        let mut chance = SmallRng::seed_from_u64(seed);
        self.disk.cut_power(|changes| match chance.random_range(0..3) {
            0 => 0,
            1 => changes,
            _ => chance.random_range(0..=changes),
        });
    }

    /// All of `during` is done in the end, when what was short is there again.
    fn wait_out(&mut self, during: &[Event], shortage: Faults) {
        let (possible, steps) = self.steps(during);
        let (runtime, log) = self.life.as_ref().unwrap();
        self.disk.fail(shortage);
        runtime.block_on(async {
            let work = async {
                for (_, event, before, after) in &steps {
                    execute(log, event, before, after).await.unwrap();
                }
            };
            let relief = async {
                // tidy: sleeps because a shortage lasts for a while; the clock is paused.
                tokio::time::sleep(std::time::Duration::from_secs(3)).await;
                self.disk.fail(Faults::default());
            };
            tokio::join!(work, relief);
        });
        self.model = possible.last().unwrap().clone();
    }

    fn found(&self) -> Model {
        let (runtime, log) = self.life.as_ref().unwrap();
        let (_, entries) = runtime.block_on(log.read(0..u64::MAX)).unwrap();
        let found = Model { first: log.range().start, entries: entries.into(), vote: log.vote(), purged: log.purged() };
        assert_eq!(log.range().end, found.next());
        found
    }

    /// All of it, and every range of it.
    fn check(&self) {
        assert_eq!(self.found(), self.model);
        let (runtime, log) = self.life.as_ref().unwrap();
        let (first, next) = (self.model.first, self.model.next());
        let starts = [first, first + 1, (first + next) / 2, next.saturating_sub(1), next];
        let pairs = starts.iter().flat_map(|start| (0..4).chain([40]).map(move |len| *start..*start + len));
        for range in pairs {
            let (at, entries) = runtime.block_on(log.read(range.clone())).unwrap();
            let wanted = range.start.clamp(first, next)..range.end.clamp(first, next);
            let expected: Vec<_> = wanted.clone().map(|at| self.model.entries[(at - first) as usize].clone()).collect();
            assert!(entries == expected && (entries.is_empty() || at == wanted.start), "{range:?}");
        }
    }
}

/// The entries that `after` has at its end and `before` has not.
fn appended(before: &Model, after: &Model) -> Vec<Bytes> {
    after.entries.iter().skip(before.entries.len()).cloned().collect()
}

/// Asks the log for what turns `before` into `after`, and waits until it is done.
async fn execute(log: &Log, event: &Event, before: &Model, after: &Model) -> io::Result<()> {
    match event {
        Event::Append(_) => {
            let (tx, rx) = oneshot::channel();
            log.append(before.next(), appended(before, after), |result| drop(tx.send(result))).await?;
            rx.await.unwrap_or_else(|_| Err(io::Error::other("the log is gone")))
        }
        Event::Truncate { .. } => log.truncate(after.next()).await,
        Event::Purge { .. } | Event::PurgeBeyond { .. } if after.first > before.first => {
            log.purge(after.first, after.purged.clone().unwrap()).await
        }
        Event::Vote(_) => log.save_vote(after.vote.clone().unwrap()).await,
        Event::Commit => log.save_committed(Bytes::from_static(b"hint")).await,
        _ => Ok(()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_log_keeps_what_it_acknowledged_and_what_it_showed(
        limits in limits(),
        events in proptest::collection::vec(event(), 1..40),
    ) {
        let mut bench = Bench::new(limits);
        events.iter().for_each(|event| bench.happen(event));
        bench.happen(&Event::Close);
    }
}

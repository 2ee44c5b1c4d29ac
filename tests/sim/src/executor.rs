//! What runs functions on a simulated node: the real gate in front, a sleep behind it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use metrics::Gauge;
use rand::{Rng, rngs::SmallRng};
use skein_placement::Line;
use skein_proto::{
    ErrorCode, Failure, Invocation, InvocationTarget, Invoke, Load, NodeId, Reply, Start, Usage, VersionId,
};
use skein_runtime::{Gate, Shut};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    history::Boot,
    world::{Planted, World},
};

/// The runtime of one boot.
pub struct Executor {
    world: Arc<World>,
    boot: Boot,
    gates: Mutex<BTreeMap<VersionId, Arc<Gate>>>,
    /// The versions that have been started.
    warm: Mutex<BTreeSet<VersionId>>,
    is_draining: AtomicBool,
    chance: Mutex<SmallRng>,
}

/// Calls of one version that run at a time on one node: few, so that there is a line.
const PERMITS: u32 = 2;
const LINE: (u32, Duration) = (4, Duration::from_secs(1));

impl Executor {
    /// A runtime on which nothing is warm.
    pub fn new(world: &Arc<World>, boot: Boot) -> Arc<Self> {
        Arc::new(Self {
            world: world.clone(),
            boot,
            gates: Mutex::default(),
            warm: Mutex::default(),
            is_draining: AtomicBool::new(false),
            chance: Mutex::new(world.chance(boot.0, 3 + (boot.1 << 8))),
        })
    }

    /// Whether a version is warm here.
    pub fn is_warm(&self, version: VersionId) -> bool {
        self.warm.lock().unwrap().contains(&version)
    }

    /// The calls that wait for a version that is warm here.
    pub fn line(&self, version: VersionId) -> Option<Line> {
        let line = || self.gates.lock().unwrap().get(&version).map_or(Line::default(), |gate| gate.line());
        self.is_warm(version).then(line)
    }

    /// How busy it is.
    pub fn load(&self) -> Load {
        let gates = self.gates.lock().unwrap();
        let warm: Vec<_> = self.warm.lock().unwrap().iter().map(|id| (id.function.0, id.number)).collect();
        let newest = warm.into_iter().rev().take(Load::WARM_MAX).collect();
        Load {
            in_flight: gates.values().map(|gate| gate.in_flight()).sum(),
            queued: gates.values().map(|gate| gate.queued()).sum(),
            queue_age_ms: gates.values().map(|gate| gate.line().age_ms).max().unwrap_or(0),
            warm: newest,
            is_draining: self.is_draining.load(SeqCst),
            ..Load::default()
        }
    }

    /// Takes no new calls and waits for those that are here.
    pub async fn drain(&self) {
        self.is_draining.store(true, SeqCst);
        let gates: Vec<_> = self.gates.lock().unwrap().values().cloned().collect();
        gates.iter().for_each(|gate| gate.close());
        for gate in gates {
            match self.world.planted {
                Planted::ForgottenPermit => all_but_one(&gate).await,
                _ => gate.home().await,
            }
        }
    }

    fn gate(&self, version: VersionId) -> Result<Arc<Gate>, Failure> {
        let mut gates = self.gates.lock().unwrap();
        if self.is_draining.load(SeqCst) {
            return Err(draining(self.boot.0));
        }
        let gate = gates.entry(version).or_insert_with(|| Arc::new(Gate::new(PERMITS, LINE, Gauge::noop())));
        Ok(gate.clone())
    }

    fn draw(&self, most_ms: u64) -> Duration {
        Duration::from_millis(self.chance.lock().unwrap().random_range(1..=most_ms))
    }
}

/// What a drain must not do.
async fn all_but_one(gate: &Gate) {
    while gate.in_flight() + gate.queued() > 1 {
        sleep(Duration::from_millis(1)).await;
    }
}

fn draining(node: NodeId) -> Failure {
    Failure::not_executed(ErrorCode::Draining, format!("node {node} takes no new calls"))
}

/// Says that an execution is over, however it ends.
struct Running<'a>(&'a World, usize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.history.ran(self.1);
    }
}

#[async_trait]
impl Invoke for Executor {
    async fn invoke(&self, invocation: Invocation) -> Result<Reply, Failure> {
        let InvocationTarget::Version(version) = invocation.target else {
            return Err(Failure::not_executed(ErrorCode::BadRequest, "a runtime takes versions"));
        };
        let gate = self.gate(version)?;
        let late = || Failure::not_executed(ErrorCode::DeadlineExceeded, "no permit in time");
        let _pass = gate.enter(invocation.deadline, invocation.depth).await.map_err(|shut| match shut {
            Shut::Closed => draining(self.boot.0),
            Shut::Full => Failure::not_executed(ErrorCode::Overloaded, "all permits are out"),
            Shut::Late => late(),
        })?;
        let start = if self.is_warm(version) { Start::Warm } else { Start::Cold };
        if start == Start::Cold {
            // tidy: sleeps because a start takes its time; the clock is simulated.
            timeout_at(invocation.deadline, sleep(self.draw(80))).await.map_err(|_| late())?;
            self.warm.lock().unwrap().insert(version);
        }
        let call = usize::try_from(u64::from_le_bytes(*invocation.payload.first_chunk().unwrap())).unwrap();
        let _running = Running(&self.world, self.world.history.runs(call, self.boot));
        // Most are short, some are not.
        let time = self.draw(60) * if self.draw(10) == Duration::from_millis(1) { 20 } else { 1 };
        let began = Instant::now();
        // tidy: sleeps because it stands for the function; the clock is simulated.
        timeout_at(invocation.deadline, sleep(time)).await.map_err(|_| {
            Failure::executed(ErrorCode::DeadlineExceeded, "the function ran longer than its caller waits")
        })?;
        let run_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let usage = Usage { run_us, ..Usage::default() };
        Ok(Reply { payload: invocation.payload, version, node: self.boot.0, start, usage })
    }
}

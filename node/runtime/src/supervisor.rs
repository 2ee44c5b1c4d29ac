//! The supervisor: owner of the table of activations. It starts them, and decides when one stops.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use skein_catalog::{Catalog, VersionRecord, Watch};
use skein_engine::Room;
use skein_proto::{ColdCause, ErrorCode, Failure, NodeId, VersionId};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use crate::{
    Config,
    activation::{Activation, Birth, name},
    actor::{self, FunctionActor},
    backoff::Backoff,
    habits::{Foresight, Habits},
    holds::moved,
    metrics::{self, Gone, Guess, Labels},
    prepare::Preparer,
    room::Clock,
    table::Table,
};

mod departed;
mod eviction;
mod guess;
mod kept;

use departed::Departed;
use eviction::Evictions;
use guess::GUESS_STAYS;
pub use kept::Kept;

/// What the supervisor is told.
pub(crate) enum Message {
    /// A call found no activation of this version: start one, or find the one that another call had started.
    Activate(VersionId, Arc<VersionRecord>, RpcReplyPort<Result<Arc<Activation>, Failure>>),
    /// The same for a version that is to run here whatever was said of its having moved.
    Warm(VersionId, Arc<VersionRecord>, RpcReplyPort<Result<Arc<Activation>, Failure>>),
    /// The same for a version that will probably be called, if it is not live, with the memory set aside for its code.
    Guess(VersionId, (Arc<VersionRecord>, Room), RpcReplyPort<Option<Arc<Activation>>>),
    /// A version has moved to another node: stop it here, and send its calls there for so long. Says how many still
    /// run, or `None` if it is not live here.
    Release(VersionId, (NodeId, Duration), RpcReplyPort<Option<u32>>),
    /// The catalogue changed: stop what is not in it any more, or not to run on this node.
    Changed(Arc<Catalog>),
    /// Stop what has been idle for long enough.
    Tick,
    /// Keep these versions ready, and no others, from now on.
    Keep(Kept),
    /// Let idle activations go that hold so many bytes, and answer when they are gone how many it were.
    Evict(u64, RpcReplyPort<u64>),
    /// Start nothing more, and answer when every activation has stopped.
    Drain(RpcReplyPort<()>),
    /// Start activations again.
    Resume,
}

/// What the supervisor starts with.
pub(crate) struct Arguments {
    pub(crate) config: Config,
    pub(crate) catalog: Watch,
    pub(crate) table: Arc<Table>,
    pub(crate) preparer: Preparer,
    pub(crate) tasks: TaskTracker,
    pub(crate) clock: Arc<Clock>,
    pub(crate) foresight: Arc<Foresight>,
}

/// Why an activation is started.
enum Origin {
    /// A call found none, or it is to be here for another reason.
    Wanted,
    /// It is to be here if there is something to spare. What its code takes is set aside.
    Spare(Room),
    /// Somebody will probably call it. What its code takes is set aside.
    Guess(Room),
}

pub(crate) struct State {
    arguments: Arguments,
    /// Every activation that has not stopped, by its actor; those that drain are not in the table any more.
    actors: HashMap<ActorId, (ActorRef<actor::Message>, Arc<Activation>)>,
    backoff: Backoff<VersionId>,
    generations: u64,
    labels: Labels,
    evictions: Evictions,
    departed: Departed,
    habits: Habits,
    kept: Kept,
    /// Those of them that memory was short for.
    starved: HashSet<VersionId>,
    is_draining: bool,
    waiting: Vec<RpcReplyPort<()>>,
}

/// The supervisor actor.
pub(crate) struct Supervisor;

impl Actor for Supervisor {
    type Msg = Message;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(&self, _: ActorRef<Message>, arguments: Arguments) -> Result<State, ActorProcessingErr> {
        Ok(State {
            arguments,
            actors: HashMap::new(),
            backoff: Backoff::new(BACKOFF_FIRST, BACKOFF_MOST),
            generations: 0,
            labels: Labels::default(),
            evictions: Evictions::default(),
            departed: Departed::default(),
            habits: Habits::default(),
            kept: Kept::default(),
            starved: HashSet::new(),
            is_draining: false,
            waiting: Vec::new(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Activate(version, record, reply) => {
                let is_live = state.arguments.table.find(version).is_some();
                let activation = state.activate(myself, version, (record, Origin::Wanted)).await;
                let is_started = !is_live && activation.is_ok();
                // The caller may have given up; the activation then waits for the next one.
                let _ = reply.send(activation);
                if is_started {
                    state.look_ahead(version);
                }
            }
            Message::Warm(version, record, reply) => {
                state.arguments.table.holds.lift(version);
                let _ = reply.send(state.activate(myself, version, (record, Origin::Wanted)).await);
            }
            Message::Guess(version, start, reply) => {
                let _ = reply.send(state.guess(myself, version, start).await);
            }
            Message::Release(version, (to, hold), reply) => {
                let _ = reply.send(state.release(version, to, hold));
            }
            Message::Changed(catalog) => state.stop_unwanted(&catalog),
            Message::Tick => {
                state.stop_idle();
                state.start_kept(&myself).await;
            }
            Message::Keep(kept) => state.keep(kept),
            Message::Evict(wanted, reply) => state.evict(wanted, reply),
            Message::Drain(reply) => state.drain(reply),
            Message::Resume => state.is_draining = false,
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Message>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(actor, last, _) => {
                // Its memory is gone before anybody is told so.
                drop(last);
                state.ended(actor.get_id(), None);
            }
            SupervisionEvent::ActorFailed(actor, error) => state.ended(actor.get_id(), Some(error.to_string())),
            _ => {}
        }
        Ok(())
    }
}

impl State {
    async fn activate(
        &mut self,
        myself: ActorRef<Message>,
        version: VersionId,
        (record, origin): (Arc<VersionRecord>, Origin),
    ) -> Result<Arc<Activation>, Failure> {
        if self.is_draining {
            return Err(draining());
        }
        if let Some(activation) = self.arguments.table.find(version) {
            return Ok(activation);
        }
        if let Some(to) = self.arguments.table.holds.find(version, Instant::now()) {
            return Err(moved(version, to));
        }
        // The call may have looked at the catalogue before the last change of it: what was stopped then must not start.
        check_wanted(&self.arguments.catalog.borrow(), version, &record, self.arguments.config.node)?;
        if let Some(failure) = self.backoff.refusal(&version, Instant::now()) {
            return Err(failure);
        }
        self.generations += 1;
        self.starved.remove(&version);
        let (room, is_guess) = match origin {
            Origin::Wanted => (None, false),
            Origin::Spare(room) => (Some(room), false),
            Origin::Guess(room) => (Some(room), true),
        };
        let birth = Birth {
            generation: self.generations,
            cause: self.departed.cause(version),
            meters: self.labels.meters(&record.manifest),
            clock: self.arguments.clock.clone(),
            habit: self.habits.of(version, &record),
            is_guess,
        };
        let activation = Activation::new(version, record, birth, &self.arguments.config);
        let arguments = actor::Arguments {
            activation: activation.clone(),
            preparer: self.arguments.preparer.clone(),
            tasks: self.arguments.tasks.clone(),
            room,
        };
        let spawned = Actor::spawn_linked(None, FunctionActor, arguments, myself.get_cell()).await;
        let (actor, _) = spawned.map_err(|error| Failure::not_executed(ErrorCode::Internal, error.to_string()))?;
        if !activation.is_guess() {
            activation.meters.cold_starts.increment(1);
        }
        self.actors.insert(actor.get_id(), (actor, activation.clone()));
        self.arguments.table.insert(activation.clone());
        metrics::activations(self.actors.len());
        Ok(activation)
    }

    fn release(&mut self, version: VersionId, to: NodeId, hold: Duration) -> Option<u32> {
        let holds = &self.arguments.table.holds;
        let Some(activation) = self.arguments.table.find(version) else {
            // Told a second time, it is still true.
            return (holds.find(version, Instant::now()) == Some(to)).then_some(0);
        };
        // Before it is off the table, so that no call finds neither.
        holds.hold(version, to, hold, Instant::now());
        self.stop_where(ColdCause::Moved, |other| std::ptr::eq(other, &*activation));
        Some(activation.in_flight())
    }

    /// Stops what has been idle for its time, those first that have been so longest. Not all at once: what idles together
    /// was busy together, and may be soon again.
    fn stop_idle(&self) {
        self.arguments.table.holds.trim(Instant::now());
        let is_due = |activation: &Activation| {
            let idle_max = Duration::from_millis(activation.record().manifest.scale.idle_ms);
            let idle_max = if activation.is_unused_guess() { idle_max.min(GUESS_STAYS) } else { idle_max };
            is_idle(activation.idle(), idle_max) && !self.is_kept(activation.version())
        };
        let all = self.actors.iter().map(|(actor, (_, activation))| (activation, *actor));
        let mut due: Vec<_> = all.filter(|(one, _)| is_due(one)).map(|(one, actor)| (one.idle(), actor)).collect();
        due.sort_unstable_by_key(|(idle, _)| std::cmp::Reverse(*idle));
        due.truncate(STOPS_MIN.max(due.len() / STOPS_PART));
        let stopped = due.iter().filter(|(_, actor)| self.stop(*actor, ColdCause::Idle)).count();
        metrics::evicted(stopped, Gone::Idle);
    }

    /// Stops what was deleted, and what is bound to other nodes: its calls end here, the next ones go there.
    fn stop_unwanted(&mut self, catalog: &Catalog) {
        let node = self.arguments.config.node;
        self.backoff.retain(|version| catalog.version(*version).is_some());
        self.habits.retain(|version| catalog.version(version).is_some());
        self.stop_where(ColdCause::Bound, |activation| match catalog.version(activation.version()) {
            Some(record) => !catalog.may_run(&record.manifest.app, node),
            None => true,
        });
    }

    fn drain(&mut self, reply: RpcReplyPort<()>) {
        self.is_draining = true;
        self.waiting.push(reply);
        self.stop_where(ColdCause::Drained, |_| true);
        self.answer_if_empty();
    }

    fn stop_where(&self, cause: ColdCause, condition: impl Fn(&Activation) -> bool) {
        for (actor, _) in self.actors.iter().filter(|(_, (_, activation))| condition(activation)) {
            self.stop(*actor, cause);
        }
    }

    /// Takes an activation off the table, so that new calls look elsewhere, then has its actor drain it. False if that
    /// was done before.
    fn stop(&self, actor: ActorId, cause: ColdCause) -> bool {
        let Some((actor, activation)) = self.actors.get(&actor) else { return false };
        let is_first = self.arguments.table.retire(activation);
        if is_first {
            activation.leaves_for(cause);
            let _ = actor.cast(actor::Message::Drain);
        }
        is_first
    }

    /// An actor is gone: stopped, failed to start, or broken.
    fn ended(&mut self, actor: ActorId, broken: Option<String>) {
        let Some((_, activation)) = self.actors.remove(&actor) else { return };
        if let Some(reason) = broken {
            error!(function = %activation.name(), error = reason, "an activation's actor broke");
            activation.fail(Failure::not_executed(ErrorCode::Internal, "the activation's actor broke"));
        }
        self.arguments.table.forget(&activation);
        if activation.is_unused_guess() {
            metrics::guessed(Guess::Wasted);
        }
        let cause = if activation.failure().is_some() { Some(ColdCause::Failed) } else { activation.left_for() };
        self.departed.note(activation.version(), cause.unwrap_or(ColdCause::Failed));
        self.note_starved(&activation);
        match activation.failure() {
            Some(failure) => {
                if failure.code == ErrorCode::Overloaded {
                    // The node's state, not the version's: it passes, and is no worse the second time.
                    self.backoff.forget(&activation.version());
                }
                let until = self.backoff.failed(activation.version(), failure, Instant::now());
                let pause = until.saturating_duration_since(Instant::now());
                info!(function = %activation.name(), pause_ms = pause.as_millis(), "not started again for a while");
            }
            None => self.backoff.forget(&activation.version()),
        }
        drop(activation);
        metrics::activations(self.actors.len());
        self.evictions.ended(actor);
        self.answer_if_empty();
    }

    fn answer_if_empty(&mut self) {
        if self.actors.is_empty() {
            for reply in self.waiting.drain(..) {
                let _ = reply.send(());
            }
        }
    }
}

/// Refuses a version whose app is bound to other nodes; whoever sent the call here knew an older catalogue.
pub(crate) fn check_place(catalog: &Catalog, record: &VersionRecord, node: NodeId) -> Result<(), Failure> {
    let app = &record.manifest.app;
    let Some(binding) = catalog.binding(app).filter(|_| !catalog.may_run(app, node)) else { return Ok(()) };
    let message = format!("app {app} is bound to {binding}, and node {node} is not among them");
    Err(Failure::not_executed(ErrorCode::Moved, message).as_of(catalog.index()))
}

/// Refuses a version that was deleted, or is not to run here.
fn check_wanted(catalog: &Catalog, version: VersionId, record: &VersionRecord, node: NodeId) -> Result<(), Failure> {
    if catalog.version(version).is_none() {
        let message = format!("{} was deleted while the call arrived", name(record));
        return Err(Failure::not_executed(ErrorCode::VersionNotFound, message));
    }
    check_place(catalog, record, node)
}

/// The refusal of a node that leaves.
pub(crate) fn draining() -> Failure {
    Failure::not_executed(ErrorCode::Draining, "this node is leaving and takes no new calls")
}

/// Whether an activation without a call for `idle` is to stop.
fn is_idle(idle: Duration, idle_max: Duration) -> bool {
    // Never zero: an activation that was started for a call must live until the call has found it.
    idle >= idle_max.max(IDLE_MIN)
}

/// Of the activations that are due to stop, this part does at one tick, and at least so many.
const STOPS_PART: usize = 8;
const STOPS_MIN: usize = 16;

const IDLE_MIN: Duration = Duration::from_millis(1);

/// A start that failed is told to the calls that waited; the next one tries again after this.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
const BACKOFF_MOST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_activation_is_idle_after_its_own_time_and_never_at_once() {
        let ms = Duration::from_millis;
        assert!(!is_idle(ms(0), ms(0)));
        assert!(!is_idle(ms(59_999), ms(60_000)));
        assert!(is_idle(ms(60_000), ms(60_000)));
    }
}

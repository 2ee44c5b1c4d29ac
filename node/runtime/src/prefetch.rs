//! Prepares new versions before anybody calls them, and tells the supervisor of each change of the catalogue.
//!
//! Which ones, and in what order, is [`Plan`]: a value. The loop around it only waits.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use ractor::ActorRef;
use skein_catalog::{Catalog, VersionRecord, Watch};
use skein_proto::{ErrorCode, Failure, FunctionId, NodeId, VersionId};
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{metrics, prepare::Preparer, supervisor};

/// What the loop works with.
pub(crate) struct Prefetch {
    /// This node: what is bound to others is not prepared here.
    pub(crate) node: NodeId,
    pub(crate) catalog: Watch,
    pub(crate) preparer: Preparer,
    pub(crate) supervisor: ActorRef<supervisor::Message>,
    pub(crate) parallel: usize,
    pub(crate) stop: CancellationToken,
}

impl Prefetch {
    /// Follows the catalogue until it ends or `stop` is cancelled.
    pub(crate) async fn run(mut self) {
        let mut plan = Plan { me: self.node, parallel: self.parallel.max(1), ..Plan::default() };
        let (mut work, mut versions) = (JoinSet::new(), HashMap::new());
        let mut seen: Arc<Catalog> = Arc::default();
        self.catalog.mark_changed();
        loop {
            while let Some((version, record)) = plan.next(Instant::now()) {
                let preparer = self.preparer.clone();
                let task = work.spawn(async move { preparer.prepare(&record, Instant::now() + PREFETCH_MAX).await });
                versions.insert(task.id(), version);
            }
            let retry = plan.retry_at();
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = self.catalog.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = self.catalog.borrow_and_update().clone();
                    plan.catalog_changed(&seen, &now);
                    // The supervisor stops what was deleted; without one there is nothing to stop.
                    let _ = self.supervisor.cast(supervisor::Message::Changed(now.clone()));
                    seen = now;
                }
                Some(ended) = work.join_next_with_id() => {
                    let (task, outcome) = match ended {
                        Ok((task, outcome)) => (task, outcome),
                        Err(broken) => (broken.id(), Err(broke(&broken))),
                    };
                    let Some(version) = versions.remove(&task) else { continue };
                    if let Err(failure) = &outcome {
                        warn!(%version, code = %failure.code, error = %failure, "version could not be prefetched");
                        metrics::prefetch_failed();
                    }
                    plan.ended(version, outcome.is_ok(), Instant::now());
                }
                () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => {}
            }
        }
    }
}

/// The failure of a preparation that broke.
fn broke(error: &JoinError) -> Failure {
    Failure::not_executed(ErrorCode::Internal, format!("the preparation broke: {error}"))
}

/// The versions still to prepare: first what aliases point at, which is what is called; of those, and of the others, the
/// newest first.
#[derive(Debug, Default)]
struct Plan {
    me: NodeId,
    /// Most that are in hand at a time.
    parallel: usize,
    wanted: BTreeMap<Order, Wanted>,
    in_hand: HashSet<VersionId>,
}

/// Whether no alias points at it; newest publication first.
type Order = (bool, Reverse<u64>, FunctionId, u64);

#[derive(Debug)]
struct Wanted {
    record: Arc<VersionRecord>,
    attempts: u32,
    not_before: Option<Instant>,
}

impl Plan {
    /// Wants what was published since `before`, and what an alias points at in functions that changed or came to this
    /// node by a binding; forgets what is gone.
    fn catalog_changed(&mut self, before: &Catalog, now: &Catalog) {
        let me = self.me;
        let is_mine = |record: &VersionRecord| now.may_run(&record.manifest.app, me);
        self.wanted.retain(|order, _| now.version(id(*order)).is_some_and(|record| is_mine(record)));
        for function in now.functions().filter(|function| now.may_run(&function.app, me)) {
            let old = before.function(&function.app, &function.name);
            let was_mine = before.may_run(&function.app, me);
            if was_mine && old.is_some_and(|old| Arc::ptr_eq(old, function)) {
                continue;
            }
            let aliased: HashSet<u64> =
                function.aliases.values().filter_map(|history| history.last().copied()).collect();
            for record in function.versions.values() {
                let is_new = record.index > before.index() && before.index() > 0;
                let is_aliased = aliased.contains(&record.number);
                let order = |is_spare| (is_spare, Reverse(record.index), function.id, record.number);
                // An alias that moved changes its place.
                let kept = self.wanted.remove(&order(is_aliased));
                if is_new || is_aliased || kept.is_some() {
                    let fresh = || Wanted { record: record.clone(), attempts: 0, not_before: None };
                    self.wanted.entry(order(!is_aliased)).or_insert_with(|| kept.unwrap_or_else(fresh));
                }
            }
        }
        while self.wanted.len() > WANTED_MAX {
            self.wanted.pop_last();
        }
    }

    /// The next version to prepare now; none while as many are in hand as may be.
    fn next(&mut self, now: Instant) -> Option<(VersionId, Arc<VersionRecord>)> {
        if self.is_full() {
            return None;
        }
        let is_due = |wanted: &Wanted| wanted.not_before.is_none_or(|time| time <= now);
        let (order, wanted) =
            self.wanted.iter().find(|(order, wanted)| is_due(wanted) && !self.in_hand.contains(&id(**order)))?;
        let version = id(*order);
        self.in_hand.insert(version);
        Some((version, wanted.record.clone()))
    }

    /// A version is prepared, or could not be: then it is tried again later, but not for ever.
    fn ended(&mut self, version: VersionId, is_prepared: bool, now: Instant) {
        self.in_hand.remove(&version);
        let Some(order) = self.wanted.keys().find(|order| id(**order) == version).copied() else { return };
        let Some(wanted) = self.wanted.get_mut(&order) else { return };
        wanted.attempts += 1;
        if is_prepared || wanted.attempts >= ATTEMPTS_MAX {
            self.wanted.remove(&order);
        } else {
            wanted.not_before = Some(now + RETRY_FIRST.saturating_mul(1 << wanted.attempts.min(6)));
        }
    }

    fn is_full(&self) -> bool {
        self.in_hand.len() >= self.parallel
    }

    /// When something that failed is due again. While nothing more may be begun nothing is: whatever ends next says more.
    fn retry_at(&self) -> Option<Instant> {
        if self.is_full() {
            return None;
        }
        let waiting = self.wanted.iter().filter(|(order, _)| !self.in_hand.contains(&id(**order)));
        waiting.filter_map(|(_, wanted)| wanted.not_before).min()
    }
}

fn id((_, _, function, number): Order) -> VersionId {
    VersionId { function, number }
}

/// Most versions remembered as wanted, a hundred bytes each; older ones are prepared when they are called.
const WANTED_MAX: usize = 16_384;

/// After so many attempts a version is left to its first call, which tells its caller what is wrong.
const ATTEMPTS_MAX: u32 = 8;
const RETRY_FIRST: Duration = Duration::from_millis(500);

/// Longest preparation in the background, with its place in the queue.
const PREFETCH_MAX: Duration = Duration::from_secs(180);

#[cfg(test)]
mod tests;

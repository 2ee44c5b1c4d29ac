//! The handle, and the task behind it that owns the detector.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use skein_proto::{ErrorCode, Failure, Load, NodeId};
use skein_transport::{Caller, Serve, Service, Transport};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Config, View,
    identity::{INCARNATION_MAX, Identity},
    metrics,
    roster::Roster,
    swim::Swim,
};

/// One node's membership: clone it freely, all clones are the same.
///
/// ```text
///  catalogue --announce, retain--> roster ---.
///  runtime ---publish_load------> load ------+--> task (owns Swim) --> view --> router, assembly
///  transport -service().datagram-> inbox ----'          `--datagrams--> transport
/// ```
#[derive(Clone)]
pub struct Membership {
    inner: Arc<Inner>,
}

struct Inner {
    me: NodeId,
    roster: watch::Sender<Roster>,
    load: watch::Sender<Told>,
    view: watch::Receiver<Arc<View>>,
    inbox: mpsc::Sender<(NodeId, Bytes)>,
    leave: mpsc::Sender<oneshot::Sender<()>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Membership {
    /// Starts the detector. It knows nobody but this node until [`Membership::announce`].
    ///
    /// Must be called in a tokio runtime. Register [`Membership::service`] with the transport.
    pub fn spawn(config: Config, transport: Arc<dyn Transport>, me: NodeId) -> Self {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self::spawn_at(config, transport, me, since_epoch)
    }

    /// The same at a time of day that the system's clock does not show, given since 1970. A node must never be started at
    /// an earlier time than before.
    pub fn spawn_at(config: Config, transport: Arc<dyn Transport>, node: NodeId, since_epoch: Duration) -> Self {
        let incarnation = u64::try_from(since_epoch.as_millis()).unwrap_or(0).min(INCARNATION_MAX);
        Self::spawn_as(config, transport, Identity { node, incarnation })
    }

    pub(crate) fn spawn_as(config: Config, transport: Arc<dyn Transport>, me: Identity) -> Self {
        let (inbox, datagrams) = mpsc::channel(config.inbox_max.max(1));
        let (leave, leaving) = mpsc::channel(1);
        let (roster, known) = watch::channel(Roster::from([me.node]));
        let (load, own_load) = watch::channel(Told::default());
        let swim = Swim::new(&config, me, known.clone(), Instant::now());
        let (view_tx, view) = watch::channel(Arc::new(swim.view(Instant::now())));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let task = Task { swim, transport, datagrams, known, own_load, leaving, view: view_tx, stop: stop.clone() };
        tasks.spawn(task.run());
        tasks.close();
        Self { inner: Arc::new(Inner { me: me.node, roster, load, view, inbox, leave, stop, tasks }) }
    }

    /// What takes the peers' datagrams; to be registered for [`Service::Gossip`].
    pub fn service(&self) -> Arc<dyn Serve> {
        Arc::new(Gossip { inbox: self.inner.inbox.clone() })
    }

    /// Names members, from the catalogue or as seeds: they are looked for at once, and heard from now on.
    pub fn announce(&self, peers: impl IntoIterator<Item = NodeId>) {
        self.inner.roster.send_if_modified(|roster| {
            let before = roster.len();
            roster.extend(peers);
            roster.len() != before
        });
    }

    /// Forgets everybody but `members` and this node: the rest is neither sought, heard nor shown any more.
    pub fn retain(&self, members: &BTreeSet<NodeId>) {
        self.inner.roster.send_if_modified(|roster| {
            let before = roster.len();
            roster.retain(|node| *node == self.inner.me || members.contains(node));
            roster.len() != before
        });
    }

    /// Sets the figures that peers are told from now on. A change of `is_draining` is told at once.
    pub fn publish_load(&self, load: Load) {
        self.inner.load.send_if_modified(|own| {
            let is_changed = own.load != load;
            own.load = load;
            is_changed
        });
    }

    /// The same, and tells every peer at once: what should not wait for the next digest.
    pub fn announce_load(&self, load: Load) {
        self.inner.load.send_modify(|own| {
            own.load = load;
            own.announcements += 1;
        });
    }

    /// The members as seen from here, now.
    pub fn view(&self) -> Arc<View> {
        self.inner.view.borrow().clone()
    }

    /// The members as seen from here, and each change.
    pub fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.inner.view.clone()
    }

    /// Tells the peers that this node goes, so that they need not find out. It is silent from then on. Some peers are
    /// told; the others hear it from them.
    pub async fn leave(&self) {
        let (done, told) = oneshot::channel();
        // Both fail only when the task has ended, and then there is nobody left to say goodbye for.
        if self.inner.leave.send(done).await.is_ok() {
            let _ = told.await;
        }
    }

    /// Ends the detector and waits for it. The last view stays readable.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.wait().await;
    }
}

/// What peers are to be told of this node.
#[derive(Debug, Clone, Default)]
struct Told {
    load: Load,
    /// How often it was to be told at once.
    announcements: u64,
}

/// Puts datagrams in the inbox.
struct Gossip {
    inbox: mpsc::Sender<(NodeId, Bytes)>,
}

#[async_trait]
impl Serve for Gossip {
    async fn call(&self, _from: Caller, _body: Bytes, _deadline: Instant) -> Result<Bytes, Failure> {
        Err(Failure::not_executed(ErrorCode::BadRequest, "gossip takes datagrams, not calls"))
    }

    fn datagram(&self, from: NodeId, body: Bytes) {
        // A datagram may be lost: when the task is behind, the newest ones are.
        if let Err(mpsc::error::TrySendError::Full(_)) = self.inbox.try_send((from, body)) {
            metrics::dropped("full");
        }
    }
}

/// Receives, has the detector decide, and does what it says.
struct Task {
    swim: Swim,
    transport: Arc<dyn Transport>,
    datagrams: mpsc::Receiver<(NodeId, Bytes)>,
    known: watch::Receiver<Roster>,
    own_load: watch::Receiver<Told>,
    leaving: mpsc::Receiver<oneshot::Sender<()>>,
    view: watch::Sender<Arc<View>>,
    stop: CancellationToken,
}

impl Task {
    async fn run(mut self) {
        let mut announced = 0;
        loop {
            let mut left = None;
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                // Before the datagrams: however many come, what is due is done.
                () = tokio::time::sleep_until(self.swim.wake_at()) => self.swim.wake(Instant::now()),
                Some(done) = self.leaving.recv() => {
                    self.swim.leave(Instant::now());
                    left = Some(done);
                }
                Ok(()) = self.known.changed() => self.swim.roster_changed(Instant::now()),
                Ok(()) = self.own_load.changed() => {
                    let Told { load, announcements } = self.own_load.borrow_and_update().clone();
                    self.swim.publish(load, announcements != announced, Instant::now());
                    announced = announcements;
                }
                // The senders live in the handle. When the last one is dropped, so is this node's interest.
                datagram = self.datagrams.recv() => match datagram {
                    Some((from, body)) => self.swim.receive(from, &body, Instant::now()),
                    None => return,
                },
            }
            for (peer, body) in self.swim.take_datagrams() {
                self.transport.datagram(peer, Service::Gossip, body);
            }
            if self.swim.take_is_changed() {
                self.show();
            }
            if let Some(done) = left {
                let _ = done.send(());
            }
        }
    }

    fn show(&self) {
        let view = self.swim.view(Instant::now());
        self.view.send_if_modified(|shown| {
            if **shown == view {
                return false;
            }
            metrics::changed(shown, &view);
            *shown = Arc::new(view);
            true
        });
    }
}

/// All handles dropped without a shutdown: the task must not outlive them for the sake of a service the transport
/// still holds.
impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

//! One simulated node: the real parts, put together as `node/skein` does, and the duties between them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use skein_catalog::{Catalog, Command, Proposal, RequestId, TokenRecord};
use skein_membership::{AddressBook, Addressed, Members, Membership, PeerState};
use skein_proto::{Digest, Failure, NodeId};
use skein_raft::{Config, Consensus, Limits};
use skein_router::{Router, invoke_service};
use skein_transport::{Service, Transport};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    artifacts::Artifacts,
    copies,
    executor::Executor,
    files,
    history::{Boot, End},
    identities,
    network::{Live, SimNetwork},
    operator::{self, TOKEN, add},
    places, workload,
    world::{NODES, Order, Planted, Standing, World, now},
};

/// The parts of a running node.
#[derive(Clone)]
pub struct Node {
    pub(crate) world: Arc<World>,
    pub(crate) boot: Boot,
    pub(crate) consensus: Consensus,
    pub(crate) router: Arc<Router>,
    pub(crate) artifacts: Artifacts,
    pub(crate) network: SimNetwork,
    pub(crate) membership: Membership,
    pub(crate) members: Arc<Members>,
    pub(crate) book: AddressBook,
    executor: Arc<Executor>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Between two looks of a node at what it is to do and how it stands.
const TICK: Duration = Duration::from_millis(100);

/// The date on which every run begins: any will do.
const EPOCH: Duration = Duration::from_secs(1_700_000_000);

/// How long a node that leaves may take for anything.
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);

/// The nodes that begin the mesh are let in by the first.
pub(crate) const FOUNDER: NodeId = NodeId(1);

/// The software of a host: starts, serves until it is told to leave, leaves.
///
/// # Errors
/// Never: what is wrong is put on record.
pub async fn host(world: Arc<World>, me: NodeId) -> turmoil::Result {
    let boot = (me, world.history.starts(me));
    world.disk(me).begin();
    match Node::start(&world, boot).await {
        Ok((node, live)) => node.serve(live).await,
        // Nothing is amiss with what did not live to start, or has no room to; it is started again.
        Err(_) if world.disk(me).is_excused() || world.disk(me).is_filled() => {}
        // Whatever a cut left of its files, a node must be able to go on from it.
        Err(error) => world.history.fault(format!("node {me} does not start again: {error}")),
    }
    Ok(())
}

impl Node {
    async fn start(world: &Arc<World>, boot: Boot) -> Result<(Self, Arc<Live>), String> {
        let me = boot.0;
        files::open(world.disk(me)).map_err(|error| format!("the node's files: {error}"))?;
        let told = files::kept(world.disk(me), places::PEERS).unwrap_or_else(|| world.admitted(me));
        let members = Arc::new(Members::new(told));
        let bound = SimNetwork::bind(world, boot, members.clone()).await;
        let (network, live) = bound.map_err(|error| error.to_string())?;
        let transport: Arc<dyn Transport> = Arc::new(network.clone());
        let disk = Arc::new(world.disk(me).clone());
        disk.idle(world.planted == Planted::TrustedRestart);
        let consensus = Consensus::start_on(disk.clone(), config(me, &world.limits), transport.clone()).await;
        disk.idle(false);
        let consensus = consensus.map_err(|error| error.to_string())?;
        members.follow(consensus.watch_state());
        let membership =
            Membership::spawn_at(skein_membership::Config::default(), transport.clone(), me, EPOCH + now());
        let own = Addressed {
            identity: identities::of(me).clone(),
            reached_at: places::reached_at(world.place(me)),
            sequence: u64::try_from((EPOCH + now()).as_millis()).unwrap(),
            kept: files::kept(world.disk(me), places::RECORDS).unwrap_or_default(),
            trust: members.clone(),
        };
        let book = AddressBook::spawn(own, transport.clone()).map_err(|failure| failure.to_string())?;
        let artifacts =
            Artifacts::open(world.disk(me), transport.clone()).map_err(|error| format!("the artifacts: {error}"))?;
        let executor = Executor::new(world, boot);
        let router = Router::new(me, executor.clone(), consensus.watch_state(), membership.watch(), transport);
        let here = executor.clone();
        router.ask_here(move |version| here.line(version));
        let (raft, propose) = consensus.services();
        live.handle(Service::Raft, raft);
        live.handle(Service::Propose, propose);
        live.handle(Service::Gossip, membership.service());
        live.handle(Service::Address, book.service());
        live.handle(Service::Artifact, artifacts.service());
        live.handle(Service::Invoke, invoke_service(executor.clone(), consensus.watch_state()));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (world, router) = (world.clone(), Arc::new(router));
        let node = Self {
            world,
            boot,
            consensus,
            router,
            artifacts,
            network,
            membership,
            members,
            book,
            executor,
            stop,
            tasks,
        };
        live.handle(Service::Control, Arc::new(places::Teller(node.clone())));
        Ok((node, live))
    }

    async fn serve(self, live: Arc<Live>) {
        let (alive, told) = watch::channel(BTreeSet::new());
        self.consensus.reconcile(told);
        self.spawn(self.network.clone().run(live));
        self.spawn(self.clone().tell_alive(alive));
        places::start(&self);
        self.spawn(self.clone().report());
        self.spawn(copies::keep(self.clone()));
        self.spawn(operator::serve(self.clone()));
        if self.boot == (FOUNDER, 1) {
            self.spawn(found(self.clone()));
        }
        workload::start(&self);
        let mut tick = interval(TICK);
        // A node that was taken off ends by itself, once its vote is not needed any more.
        while self.world.order(self.boot.0) == Order::Serve && !self.consensus.state().has_left(self.boot.0) {
            tick.tick().await;
        }
        self.leave().await;
    }

    /// Leaves as `node/skein` does: no new calls, leadership handed over, running calls finished, peers told.
    async fn leave(&self) {
        self.membership.announce_load(self.executor.load());
        self.consensus.hand_over(Instant::now() + LEAVE_PATIENCE).await;
        self.executor.drain().await;
        // What was drained is to be over: the record is closed before anything is stopped.
        self.world.history.ends(self.boot.0, End::Left);
        self.world.stands(self.boot.0, None);
        self.membership.leave().await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.membership.shutdown().await;
        self.book.shutdown().await;
        if let Err(failure) = self.consensus.shutdown().await
            && !self.world.disk(self.boot.0).is_excused()
        {
            self.world.history.fault(format!("node {} does not stop cleanly: {failure}", self.boot.0));
        }
    }

    /// Has a task run until the node leaves.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// The catalogue, not older than what was acknowledged anywhere before this was asked, and its index.
    ///
    /// # Errors
    /// When no majority answers by the deadline.
    pub(crate) async fn read(&self, deadline: Instant) -> Result<(u64, Arc<Catalog>), Failure> {
        let believes_to_lead = self.consensus.status().is_leader();
        if !(self.world.planted == Planted::StaleLeaderRead && believes_to_lead) {
            self.consensus.await_read_index(deadline).await?;
        }
        let catalog = self.consensus.state();
        Ok((catalog.index(), catalog))
    }

    /// The nodes that are alive as far as this one knows.
    pub(crate) fn alive(&self) -> BTreeSet<NodeId> {
        self.membership.view().alive().map(|peer| peer.node).chain([self.boot.0]).collect()
    }

    async fn tell_alive(self, alive: watch::Sender<BTreeSet<NodeId>>) {
        let mut view = self.membership.watch();
        let mut dead = BTreeSet::new();
        loop {
            let seen = view.borrow_and_update().clone();
            alive.send_replace(seen.alive().map(|peer| peer.node).collect());
            let down = seen.peers.values().filter(|peer| peer.state == PeerState::Down).map(|peer| peer.node);
            let down: BTreeSet<NodeId> = down.collect();
            down.difference(&dead).for_each(|peer| self.network.disconnect(*peer));
            dead = down;
            if view.changed().await.is_err() {
                return;
            }
        }
    }

    async fn report(self) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut shown, mut is_told, mut has_told_loss) = ((0, 0), false, false);
        loop {
            tick.tick().await;
            self.membership.publish_load(self.executor.load());
            let catalog = self.consensus.state();
            if shown.0 != catalog.index() {
                shown = (catalog.index(), digest(&catalog));
                self.world.history.state(self.boot.0, shown.0, shown.1);
            }
            let (status, load) = (self.consensus.status(), self.executor.load());
            if let Some(fault) = &status.fault
                && !self.world.disk(self.boot.0).is_excused()
                && !is_told
            {
                is_told = true;
                self.world.history.fault(format!("node {} stopped at {:?}: {fault}", self.boot.0, now()));
            }
            if let Some(lost) = status.lost.as_ref().filter(|_| !has_told_loss) {
                has_told_loss = true;
                let entries = format!("{} to {}", lost.first, lost.last);
                self.world.history.fault(format!("node {} lost what it had acknowledged: {entries}", self.boot.0));
            }
            let standing = Standing {
                leader: status.leader,
                catalog,
                digest: shown.1,
                alive: self.membership.view().alive().map(|peer| peer.node).collect(),
                voters: status.voters.clone(),
                busy: (load.in_flight + load.queued) as usize,
            };
            self.world.stands(self.boot.0, Some(standing));
        }
    }
}

fn config(me: NodeId, limits: &Limits) -> Config {
    let mut config = Config::new("/raft", me);
    config.limits = *limits;
    config
}

async fn found(node: Node) {
    let (world, consensus) = (&node.world, &node.consensus);
    let proposal =
        |number: u64, command| Proposal { request: RequestId(Uuid::from_u128(u128::from(number))), at_ms: 0, command };
    let let_in = |node: u64| {
        let token = (NodeId(node) != FOUNDER).then_some(TOKEN);
        proposal(node + 2, add(world, NodeId(node), token))
    };
    let record = TokenRecord { hash: Digest::of(b"secret"), role: None, expires_ms: u64::MAX };
    let token = proposal(2, Command::CreateToken { id: TOKEN.to_owned(), token: record });
    let mesh = identities::MESH;
    consensus.found(vec![proposal(1, Command::Found { mesh }), let_in(FOUNDER.0), token]).await.unwrap();
    for node in 2..=NODES {
        while consensus.submit(&let_in(node), Instant::now() + LEAVE_PATIENCE).await.is_err() {}
    }
}

fn digest(catalog: &Catalog) -> u64 {
    let bytes = Digest::of(&catalog.to_snapshot().unwrap());
    u64::from_le_bytes(*bytes.as_bytes().first_chunk().unwrap())
}

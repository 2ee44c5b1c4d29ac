//! One node, assembled: which part is given which, in what order they start, and in what order they stop.

mod access;
mod boot;
mod control;
mod copies;
mod cpu_bound;
mod descriptors;
mod duties;
mod freshness;
mod join;
mod load;
mod metrics;
mod migrate;
mod operations;
mod outward;
mod places;
mod prewarm;
mod publish;
mod quorum;
mod removal;
mod status;
mod warm;
mod why;

use std::{sync::Arc, time::Duration};

use skein_artifacts::{Artifacts, OpenError};
use skein_catalog::Propose;
use skein_engine::{Engine, EngineConfig, WorkerCommand};
use skein_gateway::{Gateway, GatewayConfig, GatewayError, Parts};
use skein_membership::{AddressBook, Addressed, Members, Membership};
use skein_proto::{ErrorCode, Failure, Invoke, NodeId, NodeName};
use skein_raft::Consensus;
use skein_router::{Router, invoke_service};
use skein_runtime::Runtime;
use skein_transport::{BindError, Network, NetworkConfig, Service, Transport};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use access::key_note;
pub(crate) use boot::Entry;

use self::{
    access::ClientAccess,
    boot::{Boot, Listen},
    control::Control,
    descriptors::Descriptors,
    duties::Known,
    freshness::Freshness,
    join::Admission,
    operations::NodeOperations,
    publish::PeerCode,
};
use crate::{config::NodeConfig, data_dir::DataDir, telemetry};

/// Longest a node takes to leave: calls may finish, within reason.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);

/// Of that, to make ready elsewhere what is in use here.
const EVACUATION_DEADLINE: Duration = Duration::from_secs(5);
/// Of that, to hand the leadership over.
const HAND_OVER_DEADLINE: Duration = Duration::from_secs(5);

/// For the answers of what had to be stopped at the deadline.
const LAST_ANSWERS_DEADLINE: Duration = Duration::from_secs(1);

/// How long a node that is new to the mesh waits until its labels are known: one write, and perhaps a new leader.
const LABELS_PATIENCE: Duration = Duration::from_secs(5);

/// A running node.
pub(crate) struct Node {
    config: NodeConfig,
    data: DataDir,
    boot: Boot,
    network: Network,
    consensus: Consensus,
    membership: Membership,
    engine: Engine,
    runtime: Runtime,
    gateway: Gateway,
    shared: Shared,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// The parts that the node's own services and duties share.
#[derive(Clone)]
struct Shared {
    config: Arc<NodeConfig>,
    transport: Arc<dyn Transport>,
    consensus: Consensus,
    membership: Membership,
    members: Arc<Members>,
    book: AddressBook,
    freshness: Arc<Freshness>,
    artifacts: Artifacts,
    engine: Engine,
    runtime: Runtime,
    /// What the last look at the copies of artifacts found.
    copies: Arc<copies::Reports>,
    quorum_lost: Arc<quorum::Lost>,
}

impl Shared {
    /// What the mesh calls this node; before it is known to be a member, what its settings say.
    fn name(&self) -> NodeName {
        let catalog = self.consensus.catalog();
        catalog.member(self.transport.local()).map_or_else(|| self.config.name.clone(), |member| member.name.clone())
    }
}

impl Node {
    /// Starts a node: founds a mesh, joins one, or resumes what the data directory holds. It serves once it has
    /// [begun](Node::begin); from now on it is to be [shut down](Node::shutdown), since peers know of it.
    ///
    /// # Errors
    /// Whatever keeps it from running; nothing is left running then, and what is on disk is resumed at the next start.
    pub(crate) async fn start(mut config: NodeConfig, data: DataDir, entry: Entry) -> Result<Self, Failure> {
        let metrics_text = telemetry::start_metrics()?;
        let descriptors = Descriptors::claim();
        let listen = boot::reserve(&mut config).await?;
        let egress = outward::egress(&config, descriptors)?;
        let boot = boot::establish(&config, &data, &entry).await?;
        if !boot.is_resumed {
            if let Some((name, role)) = &boot.let_in_as {
                config.keep_to(name, *role)?;
            }
            remember(&config, &data);
        }
        let me = boot.identity.node();

        let members = Arc::new(Members::new(boot.peers.clone()));
        let network = Network::bind(network_config(&config, listen), boot.identity.clone(), members.clone()).await;
        let network = network.map_err(bind_failure)?;
        let transport: Arc<dyn Transport> = Arc::new(network.clone());
        let artifacts =
            Artifacts::open(data.artifacts(), transport.clone()).await.map_err(|error| artifacts_failure(&error))?;
        let engine = open_engine(&config, &data)?;
        let consensus = start_consensus(&data, &boot, transport.clone()).await?;
        if let Some(member) = consensus.catalog().member(me) {
            config.keep_to(&member.name, member.role)?;
        }
        remember(&config, &data);
        members.follow(consensus.watch());
        describe_metrics();
        let membership = Membership::spawn(skein_membership::Config::default(), transport.clone(), me);
        let book = address_book(&config, &data, &boot, members.clone(), transport.clone())?;
        let freshness = Arc::new(Freshness::new(config.catch_up, !boot.is_resumed, network.removal()));
        let code = Arc::new(PeerCode::new(artifacts.clone(), membership.clone(), me));
        let runtime =
            Runtime::start(skein_runtime::Config::new(me), engine.clone(), code.clone(), consensus.watch()).await?;
        let shared = Shared {
            config: Arc::new(config.clone()),
            transport: transport.clone(),
            consensus: consensus.clone(),
            membership: membership.clone(),
            members,
            book,
            freshness,
            artifacts,
            engine: engine.clone(),
            runtime: runtime.clone(),
            copies: Arc::default(),
            quorum_lost: Arc::new(quorum::Lost::new(true)),
        };
        let (catalog, view) = (consensus.watch(), membership.watch());
        let router = Arc::new(Router::new(me, Arc::new(runtime.clone()), catalog, view, transport.clone()));
        let invoke: Arc<dyn Invoke> = router.clone();
        runtime.connect(&invoke, Some(egress));
        let here = runtime.clone();
        router.ask_here(move |version| here.line(version));
        register(&network, &shared, router.clone(), &boot);
        network.start();

        let parts = Parts {
            invoke: router.clone(),
            consensus: Arc::new(consensus.clone()),
            operations: Arc::new(NodeOperations::new(shared.clone(), &boot.identity, router.clone(), code.clone())),
            metrics_text,
        };
        let gateway =
            Gateway::serve(gateway_config(&config, listen, descriptors), parts).await.map_err(gateway_failure)?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let known = Known { peers_dir: data.identity(), addresses: data.addresses(), hints: entry.seeds };
        duties::start(&shared, &network, known, &tasks, &stop);
        prewarm::start(&shared, router, &tasks, &stop);
        Ok(Self { config, data, boot, network, consensus, membership, engine, runtime, gateway, shared, tasks, stop })
    }

    /// Founds the mesh if this node is to, and waits until it knows the mesh, is as far as the mesh, is reached by it and
    /// has a key of its own: a node that resumes, for the last three, a while only, unless it knows that it is not as far.
    /// That may take hours: whoever waits for it waits for signals and for [`Node::removed`], too.
    ///
    /// # Errors
    /// Whatever keeps it from serving. The next start goes on with what is on disk.
    pub(crate) async fn begin(&self) -> Result<(), Failure> {
        let (shared, boot, patience) = (&self.shared, &self.boot, Instant::now() + self.config.catch_up);
        boot::found_if_due(shared, boot).await?;
        access::wait_until_member(shared).await?;
        // The catalogue that was there at the start may not have had it yet.
        if let Some(member) = self.consensus.catalog().member(self.network.local()) {
            let mut config = self.config.clone();
            config.keep_to(&member.name, member.role)?;
            remember(&config, &self.data);
        }
        shared.freshness.settled(Instant::now() + self.config.catch_up.max(access::ENTRY_DEADLINE)).await?;
        self.wait_until_reached(patience).await;
        access::prepare_context(shared, &boot.identity, &self.data, (&self.tasks, &self.stop), boot.is_resumed).await?;
        if !boot.is_resumed {
            duties::labels_known(shared, Instant::now() + LABELS_PATIENCE).await;
        }
        self.tasks.spawn(access::keep_context(shared.clone(), self.data.context(), self.stop.clone()));
        Ok(())
    }

    /// Waits until a peer has called this node, if there is one that could.
    async fn wait_until_reached(&self, deadline: Instant) {
        let is_alone = self.consensus.catalog().members().count() <= 1;
        let mut reached = self.network.reached();
        if is_alone || tokio::time::timeout_at(deadline, reached.wait_for(|is_reached| *is_reached)).await.is_ok() {
            return;
        }
        let waited_s = self.config.catch_up.as_secs();
        tracing::warn!(
            waited_s,
            "no peer has reached this node: it serves what it has. Where they moved, `--join ADDR` says where one is"
        );
    }

    /// The line that says it serves.
    pub(crate) fn ready_line(&self) -> String {
        format!(
            "ready name={} mesh={} http={} admin={} context={}",
            self.name(),
            self.network.local_addr(),
            self.gateway.http_addr(),
            self.gateway.admin_addr(),
            self.data.context().display()
        )
    }

    /// What the mesh calls it.
    pub(crate) fn name(&self) -> NodeName {
        self.shared.name()
    }

    pub(crate) fn context_file(&self) -> std::path::PathBuf {
        self.data.context()
    }

    /// Ends when the mesh has taken this node off for good and goes on without its vote: it learns that by the catalogue, or
    /// by a peer, which is named, if it was away.
    pub(crate) async fn removed(&self) -> Option<NodeId> {
        let me = self.network.local();
        let mut catalog = self.consensus.watch();
        let written = async {
            if catalog.wait_for(|catalog| catalog.has_left(me)).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = written => None,
            by = self.shared.freshness.removed() => Some(by),
        }
    }

    /// Leaves in order: everything still taken while balancers notice and what is in use is made ready elsewhere; leadership
    /// handed over, entrances closed, running calls finished; every answer delivered; only then peers told; files closed.
    pub(crate) async fn shutdown(self) {
        let deadline = Instant::now() + SHUTDOWN_DEADLINE;
        let name = self.name();
        tracing::info!(%name, "leaving");
        self.gateway.lame_duck();
        let evacuation = migrate::evacuate(&self.shared, deadline.min(Instant::now() + EVACUATION_DEADLINE));
        tokio::join!(evacuation, tokio::time::sleep(self.lame_duck()));
        self.network.farewell();
        // The runtime takes no new calls from the moment this is first polled, and the peers are told so at once.
        let drained = self.runtime.drain(deadline);
        let told = async {
            load::announce(&self.shared);
            self.consensus.hand_over(deadline.min(Instant::now() + HAND_OVER_DEADLINE)).await;
        };
        // The entrances stay open until the calls that came through them have been answered.
        let (is_drained, (), ()) = tokio::join!(biased; drained, told, self.gateway.shutdown(deadline));
        if !is_drained {
            tracing::warn!("calls were still running at the deadline and are stopped");
        }
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.runtime.shutdown(deadline).await;
        self.engine.shutdown();
        // Before the peers hear that this node is gone: they give up what they still wait for then.
        self.network.finish(deadline.max(Instant::now() + LAST_ANSWERS_DEADLINE)).await;
        self.membership.leave().await;
        self.membership.shutdown().await;
        self.shared.book.shutdown().await;
        if let Err(failure) = self.consensus.shutdown().await {
            tracing::error!(%failure, "consensus did not stop cleanly");
        }
        self.network.shutdown(deadline).await;
        tracing::info!(%name, "left");
    }

    /// How long to wait for balancers and clients to notice: not at all where there is no other node to go to.
    fn lame_duck(&self) -> Duration {
        let (me, view) = (self.network.local(), self.membership.view());
        let has_others = view.alive().any(|peer| peer.node != me);
        if has_others { self.config.lame_duck } else { Duration::ZERO }
    }
}

/// This very program, as the process in which a module is compiled.
pub(crate) fn compile_worker() -> WorkerCommand {
    WorkerCommand::this_program(["compile-worker"])
}

/// The bodies of requests may take an eighth of the node's memory, but always one of the largest there may be; their
/// connections take what share of the descriptors is theirs.
fn gateway_config(config: &NodeConfig, listen: Listen, descriptors: Descriptors) -> GatewayConfig {
    let mut gateway = GatewayConfig::new(listen.http, listen.admin);
    gateway.connections_max = gateway.connections_max.min(descriptors.share());
    gateway.connections_per_address_max = gateway.connections_per_address_max.min(gateway.connections_max / 2);
    gateway.body_bytes_max = an_eighth(config, gateway.body_bytes_max, BODY_BYTES_LEAST);
    gateway.answer_bytes_max = an_eighth(config, gateway.answer_bytes_max, BODY_BYTES_LEAST);
    gateway
}

/// What clients send over the mesh's own port may take as much.
fn network_config(config: &NodeConfig, listen: Listen) -> NetworkConfig {
    let mut network = NetworkConfig::new(listen.mesh);
    network.client_body_bytes_max = an_eighth(config, network.client_body_bytes_max, CLIENT_BODY_BYTES_LEAST);
    network
}

/// An eighth of the node's memory, if that is less than `most`, but never less than `least`.
fn an_eighth(config: &NodeConfig, most: usize, least: usize) -> usize {
    let eighth = usize::try_from(config.memory.as_u64() / 8).unwrap_or(usize::MAX);
    most.min(eighth.max(least))
}

/// The largest payload and the largest artifact.
const BODY_BYTES_LEAST: usize = 64 << 20;

/// The largest request that a client may send to the mesh's port.
const CLIENT_BODY_BYTES_LEAST: usize = 32 << 20;

/// Gives every metric its unit and help text.
fn describe_metrics() {
    skein_artifacts::metrics::describe();
    skein_membership::metrics::describe();
    skein_router::metrics::describe();
    metrics::describe();
}

fn register(network: &Network, shared: &Shared, router: Arc<Router>, boot: &Boot) {
    let (raft, propose) = shared.consensus.services();
    let admission = Arc::new(Admission::new(shared.clone(), boot.authority.clone()));
    network.handle(Service::Raft, raft);
    network.handle(Service::Propose, propose);
    network.handle(Service::Artifact, shared.artifacts.service());
    network.handle(Service::Gossip, shared.membership.service());
    network.handle(Service::Address, shared.book.service());
    network.handle(Service::Invoke, invoke_service(Arc::new(shared.runtime.clone()), shared.consensus.watch()));
    network.handle(Service::Control, Arc::new(Control::new(shared.clone(), admission.clone(), router.clone())));
    network.handle(Service::Join, admission);
    let (calls, nodes) = ClientAccess::services(shared, router);
    network.handle(Service::Client, calls);
    network.handle(Service::Nodes, nodes);
}

fn open_engine(config: &NodeConfig, data: &DataDir) -> Result<Engine, Failure> {
    let mut engine = EngineConfig::new(data.cache());
    engine.cache_key = data.cache_key();
    engine.worker = Some(compile_worker());
    engine.memory_bytes_max = config.memory.as_u64();
    Ok(Engine::open(engine)?)
}

/// Writes down what this run uses, once it is known that it may use it: what was refused is never found again.
fn remember(config: &NodeConfig, data: &DataDir) {
    if let Err(failure) = config.remember(&data.settings()) {
        tracing::warn!(%failure, "what this run uses could not be written down: a restart needs the same flags");
    }
}

/// The consensus of a node that, once it has begun, does not begin again.
async fn start_consensus(data: &DataDir, boot: &Boot, transport: Arc<dyn Transport>) -> Result<Consensus, Failure> {
    let mut raft = skein_raft::Config::new(data.raft(), boot.identity.node());
    raft.must_exist = boot.has_begun;
    let consensus = Consensus::start(raft, transport).await?;
    // Before anybody is answered: what is promised from now on is in this log.
    boot::note_begun(boot)?;
    Ok(consensus)
}

/// The book of where the members are, with this node's own record signed anew.
fn address_book(
    config: &NodeConfig,
    data: &DataDir,
    boot: &Boot,
    trust: Arc<Members>,
    transport: Arc<dyn Transport>,
) -> Result<AddressBook, Failure> {
    let own = Addressed {
        identity: boot.identity.clone(),
        reached_at: boot::reached_at(config)?,
        sequence: access::now_ms(),
        kept: places::kept(&data.addresses()),
        trust,
    };
    AddressBook::spawn(own, transport)
}

fn artifacts_failure(error: &OpenError) -> Failure {
    Failure::not_executed(ErrorCode::Internal, error.to_string())
}

fn bind_failure(error: BindError) -> Failure {
    let code = match error {
        BindError::AddressInUse { .. } => ErrorCode::AddressInUse,
        _ => ErrorCode::Internal,
    };
    Failure::not_executed(code, error.to_string())
}

fn gateway_failure(error: GatewayError) -> Failure {
    let code = match error {
        GatewayError::AddressInUse { .. } => ErrorCode::AddressInUse,
        _ => ErrorCode::Internal,
    };
    Failure::not_executed(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_send_takes_an_eighth_of_a_small_nodes_memory_and_never_less_than_one_of_the_largest() {
        let none = crate::config::Settings::default();
        let mut config = NodeConfig::compose(&none, &none, &none, "n".parse().unwrap());
        let any = (std::net::Ipv4Addr::LOCALHOST, 0).into();
        let bounds = |config: &NodeConfig| {
            let network = network_config(config, Listen { mesh: any, http: any, admin: any });
            network.client_body_bytes_max >> 20
        };
        config.memory = bytesize::ByteSize::gib(64);
        assert_eq!(bounds(&config), 512);
        config.memory = bytesize::ByteSize::mib(400);
        assert_eq!(bounds(&config), 50);
        config.memory = bytesize::ByteSize::mib(64);
        assert_eq!(bounds(&config), 32);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_that_has_not_begun_can_be_told_to_leave() {
        let dir = tempfile::tempdir().unwrap();
        let none = crate::config::Settings::default();
        let mut config = NodeConfig::compose(&none, &none, &none, "n".parse().unwrap());
        for address in [&mut config.mesh, &mut config.http, &mut config.admin] {
            *address = "127.0.0.1:0".parse().unwrap();
        }
        let node = Node::start(config, DataDir::open(dir.path()).unwrap(), Entry::default()).await.unwrap();
        // The mesh is founded by the beginning, which may wait for long.
        assert_eq!(node.consensus.catalog().mesh(), None);
        node.shutdown().await;
    }
}

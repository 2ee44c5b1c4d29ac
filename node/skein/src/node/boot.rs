//! How a node comes to its identity: it resumes one, founds a mesh, or joins one.

use std::{
    fs,
    net::{SocketAddr, TcpListener, UdpSocket},
    path::Path,
    sync::Arc,
    time::Duration,
};

use skein_catalog::{Addresses, Command, Proposal, RequestId};
use skein_proto::{ErrorCode, Failure, MeshId, NodeId};
use skein_transport::{Authority, Identity, IdentityError, JoinToken, NodeKey, Validity};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Shared, join, members::KnownPeer};
use crate::{
    config::NodeConfig,
    data_dir::{DataDir, write_private},
};

/// What the command line asks of a node whose data directory is empty.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// The token to join with; none founds a mesh.
    pub(crate) token: Option<JoinToken>,
    /// Nodes to ask; the token's own come after them.
    pub(crate) seeds: Vec<SocketAddr>,
}

/// What a node knows of itself before anything runs.
pub(super) struct Boot {
    pub(super) identity: Identity,
    /// The mesh's CA, on nodes that may let others in.
    pub(super) authority: Option<Arc<Authority>>,
    /// Members as they were when this node was let in; the catalogue, once it is here, knows better.
    pub(super) peers: Vec<KnownPeer>,
    pub(super) is_founder: bool,
    pub(super) is_resumed: bool,
}

/// The founder's id: the first the catalogue gives.
const FOUNDER: NodeId = NodeId(1);
const AUTHORITY_FILE: &str = "authority.pem";
const FOUNDER_FILE: &str = "founder";
const PEERS_FILE: &str = "peers.json";
/// How long the founder's own group of one may take to begin.
const FOUND_DEADLINE: Duration = Duration::from_secs(20);

/// Finds the ports that 0 stands for, and makes sure that each is free and can be told to others, before anything
/// lasting is done.
///
/// # Errors
/// `address-in-use`, with the address; `bad-request` for one that nobody can be told.
pub(super) fn reserve(config: &mut NodeConfig) -> Result<(), Failure> {
    let busy = |addr: SocketAddr, what: &str, error: std::io::Error| {
        let code = match error.kind() {
            std::io::ErrorKind::AddrInUse => ErrorCode::AddressInUse,
            _ => ErrorCode::BadRequest,
        };
        Failure::not_executed(code, format!("cannot use {addr} for {what}: {error}"))
    };
    let udp = UdpSocket::bind(config.mesh).and_then(|socket| socket.local_addr());
    config.mesh = udp.map_err(|error| busy(config.mesh, "the mesh (--mesh)", error))?;
    for (addr, what) in [(&mut config.http, "the gateway (--http)"), (&mut config.admin, "the admin API (--admin)")] {
        let tcp = TcpListener::bind(*addr).and_then(|listener| listener.local_addr());
        *addr = tcp.map_err(|error| busy(*addr, what, error))?;
    }
    addresses(config).map(|_| ())
}

/// The addresses others are told.
///
/// # Errors
/// `bad-request` if the node listens everywhere and was not told by which address it is reached.
pub(super) fn addresses(config: &NodeConfig) -> Result<Addresses, Failure> {
    let told = |addr| config.advertised(addr).map(|addr| addr.to_string());
    Ok(Addresses { mesh: told(config.mesh)?, http: told(config.http)?, admin: told(config.admin)? })
}

/// The identity in the data directory; else a new one, by founding or joining.
///
/// # Errors
/// What is wrong with the directory, the token, or the nodes that were asked.
pub(super) async fn establish(config: &NodeConfig, data: &DataDir, entry: Entry) -> Result<Boot, Failure> {
    let dir = data.identity();
    match Identity::load(&dir) {
        Ok(identity) => {
            if entry.token.is_some() {
                tracing::info!("the data directory already belongs to a mesh: resuming it, the token is not needed");
            }
            let is_founder = dir.join(FOUNDER_FILE).exists();
            let (authority, peers) = (load_authority(&dir)?, load_peers(&dir)?);
            return Ok(Boot { identity, authority, peers, is_founder, is_resumed: true });
        }
        Err(IdentityError::Absent { .. }) => {}
        Err(error) => return Err(identity_failure(error)),
    }
    fs::create_dir_all(&dir).map_err(|error| crate::data_dir::io_failure("create", &dir, &error))?;
    match entry.token {
        Some(token) => {
            let admitted = join::join(config, &dir, &token, &entry.seeds).await?;
            if let Some(authority) = &admitted.authority {
                save_authority(&dir, authority)?;
            }
            save_peers(&dir, &admitted.peers)?;
            admitted.identity.save(&dir).map_err(identity_failure)?;
            let (identity, authority) = (admitted.identity, admitted.authority.map(Arc::new));
            Ok(Boot { identity, authority, peers: load_peers(&dir)?, is_founder: false, is_resumed: false })
        }
        None if !entry.seeds.is_empty() => Err(Failure::not_executed(
            ErrorCode::BadToken,
            "joining needs a token: run `skein token create` on a node of the mesh and pass it by --token",
        )),
        None => found(&dir),
    }
}

/// Makes a CA and this node's own certificate. The mesh begins when the group does; see [`found_if_due`].
fn found(dir: &Path) -> Result<Boot, Failure> {
    let authority = Authority::found(MeshId::random()).map_err(internal)?;
    let key = NodeKey::generate().map_err(identity_failure)?;
    let request = key.request().map_err(identity_failure)?;
    let certificate = authority.sign(&request, FOUNDER, Validity::of_a_node()).map_err(internal)?;
    let identity = Identity::new(key, &certificate, authority.certificate()).map_err(identity_failure)?;
    save_authority(dir, &authority)?;
    write_private(&dir.join(FOUNDER_FILE), b"")?;
    // Last: with it, the next start resumes.
    identity.save(dir).map_err(identity_failure)?;
    let authority = Some(Arc::new(authority));
    Ok(Boot { identity, authority, peers: Vec::new(), is_founder: true, is_resumed: false })
}

/// Begins the group of one, unless that was done before. A crash between the two is made good by the next start.
///
/// # Errors
/// `no-quorum` when the log cannot be written in time; the catalogue's refusal.
pub(super) async fn found_if_due(shared: &Shared, boot: &Boot) -> Result<(), Failure> {
    if !boot.is_founder || shared.consensus.status().is_initialized() {
        return Ok(());
    }
    let proposal = |command| Proposal { request: RequestId(Uuid::now_v7()), at_ms: super::access::now_ms(), command };
    let member = Command::AddMember {
        name: shared.config.name.clone(),
        key: boot.identity.key_digest(),
        addresses: addresses(&shared.config)?,
        role: shared.config.role,
        token: None,
    };
    let first = vec![proposal(Command::Found { mesh: boot.identity.mesh() }), proposal(member)];
    tokio::time::timeout_at(Instant::now() + FOUND_DEADLINE, shared.consensus.found(first)).await.map_err(|_| {
        Failure::maybe_executed(ErrorCode::NoQuorum, "the mesh was not founded in time: is the disk very slow?")
    })?
}

fn load_authority(dir: &Path) -> Result<Option<Arc<Authority>>, Failure> {
    let path = dir.join(AUTHORITY_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => Authority::from_pem(&text)
            .map(|authority| Some(Arc::new(authority)))
            .map_err(|error| Failure::not_executed(ErrorCode::CorruptStore, format!("{}: {error}", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(crate::data_dir::io_failure("read", &path, &error)),
    }
}

fn save_authority(dir: &Path, authority: &Authority) -> Result<(), Failure> {
    write_private(&dir.join(AUTHORITY_FILE), authority.to_pem().as_bytes())
}

fn save_peers(dir: &Path, peers: &[KnownPeer]) -> Result<(), Failure> {
    write_private(&dir.join(PEERS_FILE), &serde_json::to_vec(peers).map_err(internal)?)
}

fn load_peers(dir: &Path) -> Result<Vec<KnownPeer>, Failure> {
    let path = dir.join(PEERS_FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(crate::data_dir::io_failure("read", &path, &error)),
    };
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::not_executed(ErrorCode::CorruptStore, format!("{}: {error}", path.display())))
}

pub(super) fn identity_failure(error: IdentityError) -> Failure {
    let code = match error {
        IdentityError::Malformed { .. } | IdentityError::Mismatch(_) => ErrorCode::CorruptStore,
        _ => ErrorCode::Internal,
    };
    Failure::not_executed(code, error.to_string())
}

pub(super) fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::not_executed(ErrorCode::Internal, error.to_string())
}

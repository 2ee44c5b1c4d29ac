//! How a node comes to its identity: it resumes one, founds a mesh, or joins one.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use skein_catalog::{Addresses, Command, MemberRole, Proposal, Propose, RequestId};
use skein_membership::Told;
use skein_proto::{ErrorCode, Failure, MeshId, NodeId, NodeName};
use skein_transport::{Address, Authority, Identity, IdentityError, JoinToken, NodeKey, ReachedAt, Validity};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Shared, join};
use crate::{
    config::NodeConfig,
    data_dir::{DataDir, aside, create_private, io_failure, write_private},
};

/// What the command line asks of a node whose data directory is empty.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// The token to join with, as it was given; none founds a mesh. Nobody reads it where the directory is used.
    pub(crate) token: Option<String>,
    /// Nodes to ask, before the token's own; where the directory is used, places where peers may be.
    pub(crate) seeds: Vec<Address>,
}

/// What a node knows of itself before anything runs.
pub(super) struct Boot {
    pub(super) identity: Identity,
    /// The mesh's CA, on nodes that may let others in.
    pub(super) authority: Option<Arc<Authority>>,
    /// Members as they were when this node was let in; the catalogue, once it is here, knows better.
    pub(super) peers: Told,
    /// The name and the role that it was just let in with, if it was told.
    pub(super) let_in_as: Option<(NodeName, MemberRole)>,
    /// Whether the founding of the mesh by this node is not known to be complete.
    pub(super) is_founding: bool,
    pub(super) is_resumed: bool,
    /// Whether an earlier run had this node's log on the disk already.
    pub(super) has_begun: bool,
    dir: PathBuf,
}

/// The founder's id: the first the catalogue gives.
const FOUNDER: NodeId = NodeId(1);
const AUTHORITY_FILE: &str = "authority.pem";
/// Names the mesh that this node founds, until the catalogue holds both: a start that was cut is finished by the next.
const FOUNDER_FILE: &str = "founder";
/// There once the node's own log is: without its log such a node would vote and answer as if it had promised nothing.
const BEGUN_FILE: &str = "begun";
const PEERS_FILE: &str = "peers.json";
/// How long the founder's own group of one may take to begin.
const FOUND_DEADLINE: Duration = Duration::from_secs(30);
/// Pause before a step of that is tried again.
const FOUND_AGAIN: Duration = Duration::from_millis(100);

/// Finds the ports that 0 stands for, and makes sure that each is free and can be told to others, before anything
/// lasting is done.
///
/// # Errors
/// `address-in-use`, with the address; `bad-request` for one that nobody can be told.
pub(super) async fn reserve(config: &mut NodeConfig) -> Result<Listen, Failure> {
    let udp = |addr: SocketAddr| UdpSocket::bind(addr).and_then(|socket| Ok((socket.local_addr()?, socket)));
    let tcp = |addr: SocketAddr| TcpListener::bind(addr).and_then(|socket| Ok((socket.local_addr()?, socket)));
    // Each is held until all are found, so that no two of them are one.
    let (mesh, _mesh) = bindable(&mut config.mesh, "the mesh (--mesh)", udp).await?;
    let (http, _http) = bindable(&mut config.http, "the gateway (--http)", tcp).await?;
    let (admin, _admin) = bindable(&mut config.admin, "the admin API (--admin)", tcp).await.map_err(|failure| {
        match failure.code == ErrorCode::AddressInUse && is_same_entrance(&config.admin, http) {
            true => same_entrance(&config.admin),
            false => failure,
        }
    })?;
    // A name can stand for two addresses, of which each entrance takes one: who dials it would find either.
    if config.http == config.admin {
        return Err(same_entrance(&config.admin));
    }
    addresses(config).map(|_| Listen { mesh, http, admin })
}

fn same_entrance(address: &Address) -> Failure {
    let message = format!("--http and --admin are both {address}: give each a port of its own");
    Failure::not_executed(ErrorCode::AddressInUse, message)
}

/// Whether `wanted` means what is taken by `bound`, also where one of the two is all addresses.
fn is_same_entrance(wanted: &Address, bound: SocketAddr) -> bool {
    let is_same_host = |ip: std::net::IpAddr| ip == bound.ip() || ip.is_unspecified() || bound.ip().is_unspecified();
    wanted.port() == bound.port() && wanted.ip().is_none_or(is_same_host)
}

/// Where the node's entrances listen: what stands behind the names in its settings, at this start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listen {
    pub(super) mesh: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) admin: SocketAddr,
}

/// The first of the addresses behind `address` that can be bound, and what is bound there. The port goes into `address`.
async fn bindable<T>(
    address: &mut Address,
    what: &str,
    bind: impl Fn(SocketAddr) -> io::Result<(SocketAddr, T)>,
) -> Result<(SocketAddr, T), Failure> {
    let mut found = address.resolve().await.map_err(|failure| {
        Failure::not_executed(ErrorCode::BadRequest, format!("cannot use {address} for {what}: {}", failure.message))
    })?;
    // A name like `localhost` has both kinds; most that dial without looking a name up expect the older one.
    found.sort_by_key(SocketAddr::is_ipv6);
    let mut last = Failure::not_executed(ErrorCode::BadRequest, format!("{address} stands for nothing"));
    for addr in found {
        match bind(addr) {
            Ok((bound, socket)) => {
                *address = address.with_port(bound.port());
                return Ok((bound, socket));
            }
            Err(error) => {
                let code = match error.kind() {
                    io::ErrorKind::AddrInUse => ErrorCode::AddressInUse,
                    _ => ErrorCode::BadRequest,
                };
                last = Failure::not_executed(code, format!("cannot use {address} for {what}: {error}"));
            }
        }
    }
    Err(last)
}

/// The addresses others are told.
///
/// # Errors
/// `bad-request` if the node listens everywhere and was not told by which address it is reached.
pub(super) fn addresses(config: &NodeConfig) -> Result<Addresses, Failure> {
    let ReachedAt { mesh, http, admin } = reached_at(config)?;
    Ok(Addresses { mesh: mesh.to_string(), http: http.to_string(), admin: admin.to_string() })
}

/// The same, read.
///
/// # Errors
/// As [`addresses`].
pub(super) fn reached_at(config: &NodeConfig) -> Result<ReachedAt, Failure> {
    let told = |address| config.advertised(address);
    Ok(ReachedAt { mesh: told(&config.mesh)?, http: told(&config.http)?, admin: told(&config.admin)? })
}

/// The identity in the data directory; else a new one, by founding or joining.
///
/// # Errors
/// What is wrong with the directory, the token, or the nodes that were asked.
pub(super) async fn establish(config: &NodeConfig, data: &DataDir, entry: &Entry) -> Result<Boot, Failure> {
    let dir = data.identity();
    match Identity::load(&dir) {
        Ok(identity) => {
            if entry.token.is_some() {
                tracing::info!("the data directory already belongs to a mesh: resuming it, the token is not needed");
            }
            return resume(dir, identity, config);
        }
        // Its log says that somebody was here, too: whoever founds or joins beside it would serve what a mesh of before said.
        Err(IdentityError::Absent { .. }) if is_there(&dir.join(BEGUN_FILE)) || is_there(&data.raft()) => {
            let message = format!(
                "there is no identity.pem in {} any more, and with it is gone who this node is: put it back if it was \
                 moved; if not, take the node off at another one with `skein node remove`, delete {} and join anew",
                dir.display(),
                dir.parent().unwrap_or(&dir).display()
            );
            return Err(Failure::not_executed(ErrorCode::CorruptStore, message));
        }
        Err(IdentityError::Absent { .. }) => {}
        Err(error) => return Err(identity_failure(error)),
    }
    create_private(&dir)?;
    match &entry.token {
        Some(token) => {
            let token: JoinToken = token.parse().map_err(|error| {
                Failure::not_executed(ErrorCode::BadToken, format!("the token cannot be used: {error}"))
            })?;
            // What a founding left that was cut before it had an identity is of a mesh that never was.
            for left in [FOUNDER_FILE, AUTHORITY_FILE] {
                remove(&dir.join(left))?;
            }
            let admitted = join::join(config, &dir, &token, &entry.seeds).await?;
            if let Some(authority) = &admitted.authority {
                save_authority(&dir, authority)?;
            }
            save_peers(&dir, &admitted.peers)?;
            // Last: with it, the next start resumes.
            admitted.identity.save(&dir).map_err(identity_failure)?;
            let (identity, authority) = (admitted.identity, admitted.authority.map(Arc::new));
            let (peers, let_in_as) = (admitted.peers, admitted.let_in_as);
            Ok(Boot {
                identity,
                authority,
                peers,
                let_in_as,
                is_founding: false,
                is_resumed: false,
                has_begun: false,
                dir,
            })
        }
        None if !entry.seeds.is_empty() => Err(Failure::not_executed(
            ErrorCode::BadToken,
            "joining needs a token: run `skein token create` on a node of the mesh and pass it by --token",
        )),
        None => found(dir),
    }
}

/// What the directory of a node that has an identity says besides it.
fn resume(dir: PathBuf, identity: Identity, config: &NodeConfig) -> Result<Boot, Failure> {
    let has_begun = is_there(&dir.join(BEGUN_FILE));
    let authority = load_authority(&dir, &identity)?;
    if authority.is_none() && config.role != MemberRole::Worker {
        let path = dir.join(AUTHORITY_FILE);
        tracing::warn!(path = %path.display(), "the mesh's authority is not here: other nodes must let new ones in");
    }
    let founded = read_if_there(&dir.join(FOUNDER_FILE))?;
    // By the name in it: one that is left of another founding means nothing.
    let is_founding = founded.is_some_and(|mesh| mesh == identity.mesh().to_string().as_bytes());
    let peers = load_peers(&dir)?;
    Ok(Boot { identity, authority, peers, let_in_as: None, is_founding, is_resumed: true, has_begun, dir })
}

/// Makes a CA and this node's own certificate. The mesh begins when the group does; see [`found_if_due`].
fn found(dir: PathBuf) -> Result<Boot, Failure> {
    let authority = Authority::found(MeshId::random()).map_err(internal)?;
    let key = NodeKey::generate().map_err(identity_failure)?;
    let request = key.request().map_err(identity_failure)?;
    let certificate = authority.sign(&request, FOUNDER, Validity::of_a_node()).map_err(internal)?;
    let identity = Identity::new(key, &certificate, authority.certificate()).map_err(identity_failure)?;
    save_authority(&dir, &authority)?;
    write_private(&dir.join(FOUNDER_FILE), identity.mesh().to_string().as_bytes())?;
    // Last: with it, the next start resumes.
    identity.save(&dir).map_err(identity_failure)?;
    let (authority, peers) = (Some(Arc::new(authority)), Told::default());
    let let_in_as = None;
    Ok(Boot { identity, authority, peers, let_in_as, is_founding: true, is_resumed: false, has_begun: false, dir })
}

/// Notes that the node's log is on the disk. To be called before anybody is answered: from then on, this node is not
/// started without its log.
///
/// # Errors
/// `disk-full` or `internal`.
pub(super) fn note_begun(boot: &Boot) -> Result<(), Failure> {
    if boot.has_begun {
        return Ok(());
    }
    match write_private(&boot.dir.join(BEGUN_FILE), b"") {
        // It ran without the note until now, and a full disk keeps nobody from serving what it has.
        Err(failure) if boot.is_resumed => {
            tracing::warn!(%failure, "it could not be noted that this node has begun");
            Ok(())
        }
        noted => noted,
    }
}

/// Begins the group of one and has the catalogue name the mesh and this node in it, as far as that was not done before.
/// Whatever a start that was cut left undone, the next one does: each step asks first whether it was done.
///
/// # Errors
/// `no-quorum` when the log cannot be written in time; the catalogue's refusal.
pub(super) async fn found_if_due(shared: &Shared, boot: &Boot) -> Result<(), Failure> {
    if !boot.is_founding {
        return Ok(());
    }
    let found = async {
        // Begins the group unless it was begun, by the log's word.
        shared.consensus.found(Vec::new()).await?;
        for command in first_commands(shared, boot)? {
            let at_ms = super::access::now_ms();
            let proposal = Proposal { request: RequestId(Uuid::now_v7()), at_ms, command };
            loop {
                match shared.consensus.found(vec![proposal.clone()]).await {
                    Err(failure) if failure.code == ErrorCode::Conflict && is_founded(shared, boot) => break,
                    // A disk that takes seconds for a sync is not given up before the deadline.
                    Err(failure) if failure.code == ErrorCode::NoQuorum && !has_others(shared) => {
                        tracing::warn!(%failure, "the mesh is being founded; asking again");
                        tokio::time::sleep(FOUND_AGAIN).await;
                    }
                    done => break done?,
                }
            }
        }
        Ok::<(), Failure>(())
    };
    let found = tokio::time::timeout_at(Instant::now() + FOUND_DEADLINE, found).await.unwrap_or_else(|_| {
        let message = "the mesh was not founded in time: is the disk very slow? Start the node again to go on";
        Err(Failure::maybe_executed(ErrorCode::NoQuorum, message))
    });
    match found {
        // Others were let in before this node had noted that it was done: what is missing is a majority, not a mesh.
        Err(failure) if has_others(shared) => {
            tracing::warn!(%failure, "the mesh was founded; that it is complete can be seen when a majority is back");
            return Ok(());
        }
        found => found?,
    }
    remove(&boot.dir.join(FOUNDER_FILE))
}

/// Whether others vote, too: then somebody was let in, and so the mesh was founded.
fn has_others(shared: &Shared) -> bool {
    shared.consensus.status().voters.len() > 1
}

/// Whether the catalogue names this very mesh.
fn is_founded(shared: &Shared, boot: &Boot) -> bool {
    shared.consensus.catalog().mesh() == Some(boot.identity.mesh())
}

/// What a mesh begins with. To add a member again that has the same key changes nothing.
fn first_commands(shared: &Shared, boot: &Boot) -> Result<[Command; 2], Failure> {
    let member = Command::AddMember {
        name: shared.config.name.clone(),
        key: boot.identity.key_digest(),
        addresses: addresses(&shared.config)?,
        role: shared.config.role,
        token: None,
    };
    Ok([Command::Found { mesh: boot.identity.mesh() }, member])
}

fn load_authority(dir: &Path, identity: &Identity) -> Result<Option<Arc<Authority>>, Failure> {
    let path = dir.join(AUTHORITY_FILE);
    let corrupt = |what: &str| {
        let message = format!("{} is damaged: {what}; move it away: other nodes let new ones in", path.display());
        Failure::not_executed(ErrorCode::CorruptStore, message)
    };
    let Some(bytes) = read_if_there(&path)? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|_| corrupt("it is not text"))?;
    let authority = Authority::from_pem(&text).map_err(|error| corrupt(&error.to_string()))?;
    if authority.certificate() != identity.ca_certificate() {
        return Err(corrupt("it is of another mesh than this node"));
    }
    Ok(Some(Arc::new(authority)))
}

fn save_authority(dir: &Path, authority: &Authority) -> Result<(), Failure> {
    write_private(&dir.join(AUTHORITY_FILE), authority.to_pem().as_bytes())
}

/// Keeps who the members are by this catalogue: whom to trust at the next start until it has one again. Best effort.
pub(super) async fn keep_peers(dir: &Path, peers: Told) {
    let dir = dir.to_owned();
    if let Err(failure) = aside(move || save_peers(&dir, &peers)).await {
        tracing::warn!(%failure, "the list of members could not be kept for the next start");
    }
}

fn save_peers(dir: &Path, peers: &Told) -> Result<(), Failure> {
    write_private(&dir.join(PEERS_FILE), &serde_json::to_vec(peers).map_err(internal)?)
}

fn load_peers(dir: &Path) -> Result<Told, Failure> {
    let path = dir.join(PEERS_FILE);
    let Some(bytes) = read_if_there(&path)? else { return Ok(Told::default()) };
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::not_executed(ErrorCode::CorruptStore, format!("{}: {error}", path.display())))
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_failure("read", path, &error)),
    }
}

/// Whether something is there, as far as can be seen: what cannot be looked at is not taken for absent.
fn is_there(path: &Path) -> bool {
    path.try_exists().unwrap_or(true)
}

/// Removes a file, if it is there, for good.
fn remove(path: &Path) -> Result<(), Failure> {
    let removed = match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
        Ok(()) => path.parent().map_or(Ok(()), |parent| fs::File::open(parent)?.sync_all()),
    };
    removed.map_err(|error| io_failure("remove", path, &error))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    /// What becomes of a start with these addresses of the gateway and the admin API, PORT being one that is free.
    async fn reserved(http: &str, admin: &str) -> Result<Listen, Failure> {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let address = |text: &str| Some(text.replace("PORT", &free).parse().unwrap());
        let flags = Settings {
            mesh: address("127.0.0.1:0"),
            http: address(http),
            admin: address(admin),
            advertise: Some("127.0.0.1".to_owned()),
            ..Settings::default()
        };
        let none = Settings::default();
        reserve(&mut NodeConfig::compose(&flags, &none, &none, "n".parse().unwrap())).await
    }

    #[tokio::test]
    async fn one_port_for_two_entrances_is_told_by_both_flags() {
        for (http, admin) in [("127.0.0.1:PORT", "127.0.0.1:PORT"), ("0.0.0.0:PORT", "127.0.0.1:PORT")] {
            let failure = reserved(http, admin).await.unwrap_err();
            assert_eq!(failure.code, ErrorCode::AddressInUse);
            assert!(failure.message.contains("--http and --admin are both 127.0.0.1:"), "{failure}");
        }
        let listen = reserved("127.0.0.1:PORT", "127.0.0.1:0").await.unwrap();
        assert_ne!(listen.http.port(), listen.admin.port());
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let failure = reserved("127.0.0.1:0", &taken.local_addr().unwrap().to_string()).await.unwrap_err();
        assert!(failure.message.contains("(--admin)"), "{failure}");
    }
}

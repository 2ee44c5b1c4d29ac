//! Joining, from both sides: the new node asks with its token, a member with the CA lets it in.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skein_catalog::{Addresses, Command, MemberRole, Outcome, Propose, RequestId};
use skein_proto::{Digest, ErrorCode, Failure, NodeId, NodeName, codec};
use skein_transport::{
    Address, Authority, CaPin, Caller, Identity, IdentityError, JoinToken, NodeKey, Serve, Service, Stranger, Validity,
};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Shared,
    boot::{addresses, identity_failure, internal},
    control::ControlRequest,
    members::{self, Told},
};
use crate::config::NodeConfig;

/// How long a new node goes on asking: the mesh may be between two leaders.
const JOIN_DEADLINE: Duration = Duration::from_secs(30);
/// Longest wait for one node's answer.
const ASK_DEADLINE: Duration = Duration::from_secs(6);
/// Of that, longest wait for another node to which a join was passed on.
const PASS_ON_DEADLINE: Duration = Duration::from_secs(4);
/// Pause before all nodes are asked again.
const ASK_AGAIN: Duration = Duration::from_millis(300);

/// What a new node sends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct JoinRequest {
    token: String,
    secret: Bytes,
    name: NodeName,
    addresses: Addresses,
    role: MemberRole,
    /// A certificate signing request: proves that the sender holds the key.
    request: Bytes,
    /// Whether a member that could not decide has passed it on: nobody passes it on again.
    #[serde(default)]
    is_passed_on: bool,
}

/// What it gets.
#[derive(Serialize, Deserialize)]
struct JoinAnswer {
    certificate: Bytes,
    ca_certificate: Bytes,
    /// The CA with its key, for nodes that may let others in.
    authority: Option<String>,
    /// The members so far: whom to listen to until the catalogue arrives.
    peers: Told,
}

/// What a node that was let in knows.
pub(super) struct Admitted {
    pub(super) identity: Identity,
    pub(super) authority: Option<Authority>,
    pub(super) peers: Told,
}

/// Asks the nodes, one after the other, until one lets this node in.
///
/// # Errors
/// `bad-token`, `untrusted` and the catalogue's refusals at once; `unreachable` and `no-quorum` after half a minute.
pub(super) async fn join(
    config: &NodeConfig,
    dir: &Path,
    token: &JoinToken,
    seeds: &[Address],
) -> Result<Admitted, Failure> {
    let key = load_or_make(dir)?;
    let request = JoinRequest {
        token: token.id.clone(),
        secret: Bytes::copy_from_slice(&token.secret),
        name: config.name.clone(),
        addresses: addresses(config)?,
        role: config.role,
        request: key.request().map_err(identity_failure)?,
        is_passed_on: false,
    };
    let body = codec::encode(&request)?;
    let told = token.seeds.iter().filter_map(|seed| seed.parse().ok());
    let seeds: Vec<Address> = seeds.iter().cloned().chain(told).collect();
    let deadline = Instant::now() + JOIN_DEADLINE;
    let mut last = Failure::not_executed(ErrorCode::Unreachable, "neither --join nor the token names a node to ask");
    while Instant::now() < deadline && !seeds.is_empty() {
        for seed in &seeds {
            match ask(seed, token.ca_fingerprint, &body).await {
                Ok(answer) => return admit(key, token, answer),
                Err(failure) if is_final(&failure) => return Err(failure),
                Err(failure) => last = failure,
            }
        }
        tracing::warn!(failure = %last, "no node let this one in yet; asking again");
        tokio::time::sleep(ASK_AGAIN).await;
    }
    Err(last)
}

fn load_or_make(dir: &Path) -> Result<NodeKey, Failure> {
    match NodeKey::load(dir) {
        Ok(key) => Ok(key),
        Err(IdentityError::Absent { .. }) => {
            let key = NodeKey::generate().map_err(identity_failure)?;
            // Saved before it is shown: a join that is repeated after a crash is the same node's.
            key.save(dir).map_err(identity_failure)?;
            Ok(key)
        }
        Err(error) => Err(identity_failure(error)),
    }
}

async fn ask(seed: &Address, ca: Digest, body: &Bytes) -> Result<JoinAnswer, Failure> {
    let deadline = Instant::now() + ASK_DEADLINE;
    let stranger = Stranger::connect_to(seed, CaPin::Fingerprint(ca), deadline).await?;
    let answer = stranger.call(Service::Join, body.clone(), deadline).await;
    stranger.close().await;
    Ok(codec::decode(&answer?)?)
}

fn is_final(failure: &Failure) -> bool {
    use ErrorCode::{BadRequest, BadToken, Conflict, Forbidden, Malformed, ProtocolMismatch, Untrusted};
    matches!(failure.code, BadRequest | BadToken | Conflict | Forbidden | Malformed | ProtocolMismatch | Untrusted)
}

fn admit(key: NodeKey, token: &JoinToken, answer: JoinAnswer) -> Result<Admitted, Failure> {
    let identity = Identity::new(key, &answer.certificate, &answer.ca_certificate).map_err(identity_failure)?;
    // TLS has shown this already; what is kept is checked all the same.
    if identity.ca_fingerprint() != token.ca_fingerprint || identity.mesh() != token.mesh {
        return Err(Failure::not_executed(ErrorCode::Untrusted, "the answer is from another mesh than the token"));
    }
    let authority = answer.authority.as_deref().map(Authority::from_pem).transpose().map_err(internal)?;
    Ok(Admitted { identity, authority, peers: answer.peers })
}

/// Lets new nodes in.
pub(super) struct Admission {
    shared: Shared,
    authority: Option<Arc<Authority>>,
}

impl Admission {
    pub(super) fn new(shared: Shared, authority: Option<Arc<Authority>>) -> Self {
        Self { shared, authority }
    }

    /// Checks the token, has the member added, signs its certificate.
    ///
    /// # Errors
    /// `bad-token`, the catalogue's refusal, `no-quorum`.
    pub(super) async fn admit(&self, join: JoinRequest, deadline: Instant) -> Result<Bytes, Failure> {
        let Some(authority) = &self.authority else { return self.pass_on(join, deadline).await };
        // The token may be younger than what was applied here.
        self.shared.consensus.read_index(deadline).await?;
        let catalog = self.shared.consensus.catalog();
        let refuse = |message: &str| Err(Failure::not_executed(ErrorCode::BadToken, message));
        let Some(token) = catalog.token(&join.token) else { return refuse("the join token is unknown to this mesh") };
        if token.hash != Digest::of(&join.secret) {
            return refuse("the join token is not the one this mesh made");
        }
        if token.expires_ms <= super::access::now_ms() {
            return refuse("the join token has expired");
        }
        let role = token.role.unwrap_or(join.role);
        let key = Authority::key_of_request(&join.request).map_err(bad_request)?;
        let command = Command::AddMember {
            name: join.name.clone(),
            key,
            addresses: join.addresses,
            role,
            token: Some(join.token),
        };
        let applied = self.shared.consensus.propose(RequestId(Uuid::now_v7()), command, deadline).await?;
        let Outcome::Member(node) = applied.outcome else { return Err(internal("the catalogue gave no node id")) };
        let answer = self.answer(authority, &join.request, node, role)?;
        tracing::info!(%node, name = %join.name, "a node was let in");
        Ok(codec::encode(&answer)?)
    }

    fn answer(
        &self,
        authority: &Authority,
        request: &[u8],
        node: NodeId,
        role: MemberRole,
    ) -> Result<JoinAnswer, Failure> {
        let catalog = self.shared.consensus.catalog();
        let mut peers = members::tell(&catalog, |node, recorded| self.shared.addresses_of(node, recorded));
        peers.peers.retain(|peer| peer.node != node);
        Ok(JoinAnswer {
            certificate: authority.sign(request, node, Validity::of_a_node()).map_err(bad_request)?,
            ca_certificate: Bytes::copy_from_slice(authority.certificate()),
            authority: (role != MemberRole::Worker).then(|| authority.to_pem()),
            peers,
        })
    }

    /// Without the CA nothing can be decided here: a member that has it does. A worker never has it, another node may have
    /// lost it, so that who is asked by a member does not ask on.
    async fn pass_on(&self, join: JoinRequest, deadline: Instant) -> Result<Bytes, Failure> {
        let none = "no node that may let others in is alive: those are the ones that have identity/authority.pem";
        let mut last = Failure::not_executed(ErrorCode::Unavailable, none);
        if join.is_passed_on {
            return Err(last);
        }
        let body = codec::encode(&ControlRequest::Join(JoinRequest { is_passed_on: true, ..join }))?;
        let (view, me) = (self.shared.membership.view(), self.shared.transport.local());
        for member in self.shared.consensus.catalog().members() {
            if member.node == me || member.role == MemberRole::Worker || !view.is_alive(member.node) {
                continue;
            }
            let asked = deadline.min(Instant::now() + PASS_ON_DEADLINE);
            match self.shared.transport.call(member.node, Service::Control, body.clone(), asked).await {
                Err(failure) if is_passing(&failure) => last = failure,
                answered => return answered,
            }
        }
        Err(last)
    }
}

/// Whether another member may answer better.
fn is_passing(failure: &Failure) -> bool {
    matches!(failure.code, ErrorCode::Unreachable | ErrorCode::Unavailable | ErrorCode::Draining)
}

fn bad_request(error: impl std::fmt::Display) -> Failure {
    Failure::not_executed(ErrorCode::BadRequest, error.to_string())
}

#[async_trait]
impl Serve for Admission {
    async fn call(&self, _: Caller, body: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        self.admit(codec::decode(&body)?, deadline).await
    }
}

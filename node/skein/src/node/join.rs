//! Joining, from both sides: the new node asks with its token, a member with the CA lets it in.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skein_catalog::{Addresses, Command, Member, MemberRole, Outcome, Propose, RequestId};
use skein_membership::Told;
use skein_proto::{Digest, ErrorCode, Failure, NodeName, codec};
use skein_transport::{
    Address, Authority, CaPin, Caller, Identity, IdentityError, JoinToken, NodeKey, Serve, Service, Stranger, Validity,
};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Shared,
    boot::{addresses, identity_failure, internal},
    control::ControlRequest,
};
use crate::config::{NodeConfig, role_text};

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
    /// The name and the role it is a member with: those of the first time, if it was let in before and did not hear of it.
    #[serde(default)]
    name: Option<NodeName>,
    #[serde(default)]
    role: Option<MemberRole>,
}

/// What a node that was let in knows.
pub(super) struct Admitted {
    pub(super) identity: Identity,
    pub(super) authority: Option<Authority>,
    pub(super) peers: Told,
    pub(super) let_in_as: Option<(NodeName, MemberRole)>,
}

/// Asks the nodes, one after the other, until one lets this node in.
///
/// # Errors
/// `bad-token`, `untrusted` and the catalogue's refusals at once; `unreachable`, or what came of the last node that was
/// reached, after half a minute.
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
    let (mut tried, mut reached) = (Vec::new(), None);
    while Instant::now() < deadline && !seeds.is_empty() {
        tried.clear();
        for seed in &seeds {
            match ask(seed, token.ca_fingerprint, &body).await {
                Ok(answer) => return admit(key, token, answer),
                Err(Unanswered::Unreached(failure) | Unanswered::Refused(failure)) if is_final(&failure) => {
                    return Err(failure);
                }
                Err(Unanswered::Unreached(failure)) => tried.push((seed, failure)),
                Err(Unanswered::Refused(failure)) => reached = Some(failure),
            }
        }
        let failure = reached.clone().unwrap_or_else(|| not_reached(&tried));
        tracing::warn!(%failure, "no node let this one in yet; asking again");
        tokio::time::sleep(ASK_AGAIN).await;
    }
    // A node that was reached once and said nothing in time may have let it in.
    Err(reached.unwrap_or_else(|| not_reached(&tried)))
}

/// Why a node did not let this one in.
#[derive(Debug)]
enum Unanswered {
    /// No connection came about.
    Unreached(Failure),
    /// It was reached, and said this, or was asked and said nothing in time.
    Refused(Failure),
}

/// That nobody was there to let this node in, and where that was tried.
fn not_reached(tried: &[(&Address, Failure)]) -> Failure {
    if tried.is_empty() {
        let message = "neither --join nor the token names a node to ask";
        return Failure::not_executed(ErrorCode::Unreachable, message);
    }
    let addresses: Vec<String> = tried.iter().map(|(address, _)| address.to_string()).collect();
    let reasons: BTreeSet<&str> = tried.iter().map(|(_, failure)| &*failure.message).collect();
    let message = format!(
        "no node of the mesh was reached at {} ({}): see whether one runs there and UDP gets through, or name another by \
         `--join ADDR`",
        addresses.join(", "),
        reasons.into_iter().collect::<Vec<_>>().join("; ")
    );
    Failure::not_executed(ErrorCode::Unreachable, message)
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

async fn ask(seed: &Address, ca: Digest, body: &Bytes) -> Result<JoinAnswer, Unanswered> {
    let deadline = Instant::now() + ASK_DEADLINE;
    let connected = Stranger::connect_to(seed, CaPin::Fingerprint(ca), deadline).await;
    let stranger = connected.map_err(Unanswered::Unreached)?;
    let answer = stranger.call(Service::Join, body.clone(), deadline).await;
    stranger.close().await;
    let read = |answer: Bytes| codec::decode(&answer).map_err(Failure::from);
    answer.and_then(read).map_err(Unanswered::Refused)
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
    Ok(Admitted { identity, authority, peers: answer.peers, let_in_as: answer.name.zip(answer.role) })
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
        let role = role_of(token.role, join.role)?;
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
        // What was proposed here is applied here.
        let catalog = self.shared.consensus.catalog();
        let Some(member) = catalog.member(node) else { return Err(internal("the node was removed again meanwhile")) };
        let answer = self.answer(authority, &join.request, member)?;
        tracing::info!(%node, name = %member.name, "a node was let in");
        Ok(codec::encode(&answer)?)
    }

    fn answer(&self, authority: &Authority, request: &[u8], member: &Member) -> Result<JoinAnswer, Failure> {
        let (node, role) = (member.node, member.role);
        let catalog = self.shared.consensus.catalog();
        let mut peers = Told::by(&catalog, |node, recorded| self.shared.addresses_of(node, recorded));
        peers.peers.retain(|peer| peer.node != node);
        Ok(JoinAnswer {
            certificate: authority.sign(request, node, Validity::of_a_node()).map_err(bad_request)?,
            ca_certificate: Bytes::copy_from_slice(authority.certificate()),
            authority: (role != MemberRole::Worker).then(|| authority.to_pem()),
            peers,
            name: Some(member.name.clone()),
            role: Some(role),
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
            if member.node == me || member.role == MemberRole::Worker || view.is_down(member.node) {
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

/// The role of a node by its token and by its own wish, of which `auto` is none.
///
/// # Errors
/// `conflict` where the two differ: a node is not let in as what it was told not to be.
fn role_of(token: Option<MemberRole>, wished: MemberRole) -> Result<MemberRole, Failure> {
    match token {
        Some(granted) if wished != MemberRole::Auto && wished != granted => {
            let (granted, wished) = (role_text(granted), role_text(wished));
            let message = format!(
                "the token lets nodes in as `{granted}`, and this one asks for `{wished}`: leave `--role` out, or make a \
                 token with `skein token create --role {wished}`"
            );
            Err(Failure::not_executed(ErrorCode::Conflict, message))
        }
        _ => Ok(token.unwrap_or(wished)),
    }
}

/// Whether another member may answer better.
fn is_passing(failure: &Failure) -> bool {
    use ErrorCode::{DeadlineExceeded, Draining, PeerLost, Unavailable, Unreachable};
    // What may have let it in finds it in: the key decides who a node is.
    matches!(failure.code, DeadlineExceeded | Draining | PeerLost | Unavailable | Unreachable)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: ErrorCode, message: &str) -> Failure {
        Failure::not_executed(code, message)
    }

    #[test]
    fn a_join_that_reaches_nobody_says_where_it_was_tried() {
        let (one, two): (Address, Address) = ("10.0.0.1:7070".parse().unwrap(), "[::1]:7070".parse().unwrap());
        let silent = failure(ErrorCode::DeadlineExceeded, "node at 10.0.0.1:7070 does not answer");
        let told = not_reached(&[(&one, silent), (&two, failure(ErrorCode::Unreachable, "no route"))]);
        assert_eq!((told.code, told.code.exit_code()), (ErrorCode::Unreachable, 3));
        for part in ["10.0.0.1:7070, [::1]:7070", "does not answer", "no route", "--join"] {
            assert!(told.message.contains(part), "{told}");
        }
        assert_eq!(not_reached(&[]).code, ErrorCode::Unreachable);
    }

    #[test]
    fn a_node_is_let_in_as_its_token_says_unless_it_asks_for_something_else() {
        use MemberRole::{Auto, Voter, Worker};
        assert_eq!(role_of(None, Worker).unwrap(), Worker);
        assert_eq!(role_of(Some(Worker), Auto).unwrap(), Worker);
        assert_eq!(role_of(Some(Worker), Worker).unwrap(), Worker);
        let refused = role_of(Some(Worker), Voter).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Conflict);
        assert!(refused.message.contains("`skein token create --role voter`"), "{refused}");
    }
}

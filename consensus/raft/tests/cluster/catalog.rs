//! The group of the catalogue, through the seam that the rest of the program uses.

use std::{collections::BTreeSet, time::Duration};

use skein_catalog::{Addresses, Command, MemberRole, Outcome, Proposal, Propose, RequestId, TokenRecord};
use skein_proto::{Digest, ErrorCode, MeshId, NodeId};
use skein_raft::{Config, Consensus};
use skein_transport::Service;
use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

use crate::{
    cluster::{PATIENCE, until},
    network::Network,
};

const TOKEN: &str = "t1";

fn request() -> RequestId {
    RequestId(Uuid::now_v7())
}

fn member(node: u64, token: Option<String>) -> Command {
    let address = |port: u64| format!("127.0.0.1:{}", port + node);
    Command::AddMember {
        name: format!("n{node}").parse().unwrap(),
        key: Digest::of(&node.to_le_bytes()),
        addresses: Addresses { mesh: address(7_000), http: address(8_000), admin: address(9_000) },
        role: MemberRole::Auto,
        token,
    }
}

fn token() -> Command {
    let token = TokenRecord { hash: Digest::of(b"secret"), role: None, expires_ms: u64::MAX };
    Command::CreateToken { id: TOKEN.to_owned(), token }
}

async fn start(network: &Network, dir: &tempfile::TempDir, node: u64) -> Consensus {
    let config = Config::new(dir.path().join(node.to_string()), NodeId(node));
    let consensus = Consensus::start(config, network.link(NodeId(node))).await.unwrap();
    let (raft, propose) = consensus.services();
    network.plug(NodeId(node), Service::Raft, raft);
    network.plug(NodeId(node), Service::Propose, propose);
    let (_, alive) = watch::channel((1..=3).map(NodeId).collect::<BTreeSet<_>>());
    consensus.reconcile(alive);
    consensus
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_catalogue_is_changed_from_any_node_and_refusals_keep_their_code() {
    let (network, dir) = (Network::default(), tempfile::tempdir().unwrap());
    let first = start(&network, &dir, 1).await;
    let commands = [Command::Found { mesh: MeshId::random() }, member(1, None), token()];
    let proposals = commands.map(|command| Proposal { request: request(), at_ms: 1, command });
    first.found(proposals.to_vec()).await.unwrap();
    let mut nodes = vec![first];
    for node in 2..=3 {
        let command = member(node, Some(TOKEN.to_owned()));
        let applied = nodes[0].propose(request(), command, Instant::now() + PATIENCE).await.unwrap();
        assert_eq!(applied.outcome, Outcome::Member(NodeId(node)));
        nodes.push(start(&network, &dir, node).await);
    }
    until("all three vote", || nodes.iter().all(|node| node.status().voters.len() == 3)).await;

    let again = request();
    let drain = Command::SetDraining { node: NodeId(2), is_draining: true };
    let applied = nodes[2].propose(again, drain.clone(), Instant::now() + PATIENCE).await.unwrap();
    assert!(nodes[2].catalog().member(NodeId(2)).unwrap().is_draining, "applied where it was proposed");
    assert!(nodes[2].catalog().index() >= applied.index);
    nodes[1].propose(again, drain, Instant::now() + PATIENCE).await.unwrap();
    let read = nodes[0].read_index(Instant::now() + PATIENCE).await.unwrap();
    assert!(read >= applied.index && nodes[0].catalog().index() >= read);

    let refused = nodes[2].propose(request(), member(9, None), Instant::now() + PATIENCE).await.unwrap_err();
    assert_ne!(refused.code, ErrorCode::NoQuorum);
    let deadline = Instant::now() + Duration::from_secs(5);
    for node in &nodes {
        node.hand_over(deadline).await;
        node.shutdown().await.unwrap();
    }
}

//! How a node finds the members, wherever they are: the duties of `node/skein` over the real address book, the real list
//! of who is trusted, and the real choice of places.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use skein_catalog::{Addresses, Catalog, Command, Proposal, RequestId};
use skein_membership::{KnownPeer, Told, places};
use skein_proto::{Failure, NodeId, codec};
use skein_transport::{Caller, ReachedAt, Serve, Service, Transport};
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use crate::{
    files, identities,
    network::address,
    node::Node,
    world::{World, now_ms},
};

/// As in `node/skein`.
const PART_AFTER: Duration = Duration::from_secs(2);
const ASK_MEMBERS_AFTER: Duration = Duration::from_millis(500);
const ASK_MEMBERS_DEADLINE: Duration = Duration::from_secs(2);
const MEET_DEADLINE: Duration = Duration::from_secs(1);
const MEET_AGAIN: Duration = Duration::from_millis(250);
const CORRECT_AGAIN: Duration = Duration::from_millis(500);
const CORRECT_DEADLINE: Duration = Duration::from_secs(2);

/// Corrections of a node's own record are numbered from here on, beyond the requests of callers.
const REQUESTS: u128 = 1 << 64;

/// The files of the next start.
pub(crate) const PEERS: &str = "peers";
pub(crate) const RECORDS: &str = "addresses";

/// Where a node at a place is reached. Only its mesh address is used.
pub(crate) fn reached_at(place: u16) -> ReachedAt {
    ReachedAt { mesh: address(place), http: address(place), admin: address(place) }
}

/// The same as the catalogue has it.
pub(crate) fn addresses(place: u16) -> Addresses {
    let place = || address(place).to_string();
    Addresses { mesh: place(), http: place(), admin: place() }
}

/// Starts the duties; they end with the node.
pub(crate) fn start(node: &Node) {
    node.spawn(follow(node.clone()));
    node.spawn(keep(node.clone()));
    node.spawn(ask_members(node.clone()));
    node.spawn(correct_record(node.clone()));
    if let Some(named) = node.world.hint_of(node.boot.0) {
        node.spawn(seek(node.clone(), named));
    }
}

/// Keeps the network's list of places, the failure detector's and the book's at who the members are and where.
async fn follow(node: Node) {
    let (me, disk) = (node.boot.0, node.world.disk(node.boot.0).clone());
    let (mut catalog, mut records) = (node.consensus.watch_state(), node.book.watch());
    let mut told = node.members.watch_told();
    let (mut known, mut kept) = (BTreeSet::new(), BTreeSet::new());
    loop {
        told.mark_unchanged();
        let (now, newest) = (catalog.borrow_and_update().clone(), records.borrow_and_update().clone());
        let places = places(&now, &newest, &node.members.vouched(&now), me);
        let ids: BTreeSet<NodeId> = places.keys().copied().collect();
        for (peer, addresses) in places {
            node.network.set_addresses(peer, &addresses);
        }
        known.extend(ids.iter().copied());
        for gone in known.iter().copied().filter(|peer| now.has_left(*peer)) {
            let network = node.network.clone();
            node.spawn(async move {
                // tidy: sleeps because that is how long it is heard still; the clock is simulated.
                sleep(PART_AFTER).await;
                network.part(gone);
            });
        }
        known.retain(|peer| !now.has_left(*peer));
        node.membership.announce(ids.iter().copied());
        node.membership.retain(&ids);
        node.book.follow(ids);
        node.book.forget(|peer| now.has_left(peer));
        let members: BTreeSet<NodeId> = now.members().map(|member| member.node).collect();
        if now.mesh().is_some() && members != kept {
            files::keep(&disk, PEERS, &word(&node, &now)).await;
            kept = members;
        }
        tokio::select! {
            biased;
            changed = catalog.changed() => if changed.is_err() { return },
            changed = records.changed() => if changed.is_err() { return },
            changed = told.changed() => if changed.is_err() { return },
        }
    }
}

/// What this node's word on the members is.
fn word(node: &Node, catalog: &Catalog) -> Told {
    let records = node.book.records();
    Told::by(catalog, |member, recorded| match records.get(member) {
        Some(at) => Addresses { mesh: at.mesh.to_string(), http: at.http.to_string(), admin: at.admin.to_string() },
        None => recorded.clone(),
    })
}

/// Keeps the records for the next start.
async fn keep(node: Node) {
    let (mut records, disk) = (node.book.watch(), node.world.disk(node.boot.0).clone());
    loop {
        let kept = records.borrow_and_update().to_keep();
        files::keep(&disk, RECORDS, &kept).await;
        if records.changed().await.is_err() {
            return;
        }
    }
}

/// Whenever there is no leader for a while, asks members who the members are.
async fn ask_members(node: Node) {
    loop {
        sleep(ASK_MEMBERS_AFTER).await;
        if node.consensus.status().is_quorum_alive {
            continue;
        }
        let (me, catalog) = (node.boot.0, node.consensus.state());
        let vouched = node.members.vouched(&catalog);
        let known = catalog.members().map(|member| member.node).chain(vouched.iter().map(|peer| peer.node));
        let asked = known.filter(|peer| *peer != me).map(|peer| {
            let network = &node.network;
            async move {
                let deadline = Instant::now() + ASK_MEMBERS_DEADLINE;
                let answer = network.call(peer, Service::Control, Bytes::new(), deadline).await?;
                Ok::<Told, Failure>(codec::decode(&answer)?)
            }
        });
        for told in futures_util::future::join_all(asked).await.into_iter().flatten() {
            node.members.tell(told);
        }
    }
}

/// Looks for a peer at a host that the operator named, until one is met there. The name is looked up anew each time.
async fn seek(node: Node, named: NodeId) {
    loop {
        let place = node.world.place(named);
        if let Ok(peer) = node.network.meet(place, Instant::now() + MEET_DEADLINE).await {
            return node.book.meet(peer);
        }
        sleep(MEET_AGAIN).await;
    }
}

/// Has the catalogue know where this node is.
async fn correct_record(node: Node) {
    let (me, boot) = node.boot;
    let here = addresses(node.world.place(me));
    let (mut catalog, mut tries) = (node.consensus.watch_state(), 0_u64);
    loop {
        let recorded = catalog.borrow_and_update().member(me).map(|member| member.addresses.clone());
        match recorded {
            Some(recorded) if recorded == here => return,
            Some(_) => {}
            None => match catalog.changed().await {
                Ok(()) => continue,
                Err(_) => return,
            },
        }
        tries += 1;
        let number = REQUESTS + (u128::from(me.0) << 48) + (u128::from(boot) << 32) + u128::from(tries);
        let command = Command::UpdateMember { node: me, addresses: here.clone() };
        let proposal = Proposal { request: RequestId(Uuid::from_u128(number)), at_ms: now_ms(), command };
        let deadline = Instant::now() + CORRECT_DEADLINE;
        match node.consensus.submit(&proposal, deadline).await {
            // Once it is applied here, the next look finds it.
            Ok((index, _)) => {
                let _ = timeout_at(deadline, catalog.wait_for(|catalog| catalog.index() >= index)).await;
            }
            // tidy: sleeps because the mesh may be between two leaders; the clock is simulated.
            Err(_) => sleep(CORRECT_AGAIN).await,
        }
    }
}

/// Tells peers who the members are.
pub(crate) struct Teller(pub(crate) Node);

#[async_trait]
impl Serve for Teller {
    async fn call(&self, _: Caller, _: Bytes, _: Instant) -> Result<Bytes, Failure> {
        Ok(codec::encode(&word(&self.0, &self.0.consensus.state()))?)
    }
}

/// What a node is told when it is let in: who the members are, and where.
pub(crate) fn told_at_join(world: &World, node: NodeId, founder: NodeId) -> Told {
    let mut told = Told::by(&world.newest(), |member, _| addresses(world.place(member)));
    if told.peers.is_empty() && node != founder {
        let founder = KnownPeer {
            node: founder,
            key: identities::of(founder).key_digest(),
            addresses: addresses(world.place(founder)),
        };
        told = Told { index: 1, peers: vec![founder] };
    }
    told
}

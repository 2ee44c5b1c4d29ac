//! Nodes on a network in memory, with paused time: what the mesh learns, and how fast.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use proptest::prelude::*;
use skein_proto::{ErrorCode, Failure, Load, NodeId};
use skein_transport::{DATAGRAM_BYTES_MAX, Duplex, Serve, Service, Transport};
use tokio::{sync::watch, time::Instant};

use crate::{Config, Membership, PeerState, View, identity::Identity, roster::Roster, swim::Swim};

/// A network that delivers at once, or not at all.
#[derive(Default)]
struct Net {
    nodes: BTreeMap<NodeId, Arc<dyn Serve>>,
    /// Pairs that do not hear each other, the smaller id first.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// One in so many datagrams is lost; none when 0.
    loss: u64,
    sent: u64,
}

struct Link {
    me: NodeId,
    net: Arc<Mutex<Net>>,
}

#[async_trait]
impl Transport for Link {
    fn local(&self) -> NodeId {
        self.me
    }

    async fn call(&self, _: NodeId, _: Service, _: Bytes, _: Instant) -> Result<Bytes, Failure> {
        Err(Failure::not_executed(ErrorCode::Unreachable, "datagrams only"))
    }

    async fn open(&self, _: NodeId, _: Service, _: Instant) -> Result<Box<dyn Duplex>, Failure> {
        Err(Failure::not_executed(ErrorCode::Unreachable, "datagrams only"))
    }

    fn datagram(&self, peer: NodeId, service: Service, body: Bytes) {
        assert_eq!(service, Service::Gossip);
        assert!(body.len() <= DATAGRAM_BYTES_MAX, "{} bytes", body.len());
        let receiver = {
            let mut net = self.net.lock().unwrap();
            net.sent += 1;
            // Scattered, but the same in every run.
            let scattered = net.sent.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
            let is_lost = net.loss > 0 && scattered.is_multiple_of(net.loss);
            let is_cut = net.cut.contains(&(self.me.min(peer), self.me.max(peer)));
            if is_lost || is_cut { None } else { net.nodes.get(&peer).cloned() }
        };
        if let Some(receiver) = receiver {
            receiver.datagram(self.me, body);
        }
    }
}

/// Several nodes and what lies between them.
struct Mesh {
    net: Arc<Mutex<Net>>,
    nodes: BTreeMap<u64, Membership>,
    size: u64,
}

impl Mesh {
    fn of(size: u64) -> Self {
        let mut mesh = Self { net: Arc::default(), nodes: BTreeMap::new(), size };
        for node in 1..=size {
            mesh.start(node, 1_000_000 + node);
        }
        mesh
    }

    fn start(&mut self, node: u64, incarnation: u64) {
        let link = Arc::new(Link { me: NodeId(node), net: self.net.clone() });
        let me = Identity { node: NodeId(node), incarnation };
        let membership = Membership::spawn_as(Config::default(), link, me);
        self.net.lock().unwrap().nodes.insert(NodeId(node), membership.service());
        membership.announce((1..=self.size).map(NodeId));
        self.nodes.insert(node, membership);
    }

    async fn kill(&mut self, node: u64) {
        self.net.lock().unwrap().nodes.remove(&NodeId(node));
        self.nodes.remove(&node).unwrap().shutdown().await;
    }

    fn cut(&self, one: u64, other: u64) {
        self.net.lock().unwrap().cut.insert((NodeId(one.min(other)), NodeId(one.max(other))));
    }

    fn heal(&self) {
        self.net.lock().unwrap().cut.clear();
    }

    fn state(&self, at: u64, of: u64) -> PeerState {
        self.nodes[&at].view().peers.get(&NodeId(of)).map_or(PeerState::Down, |peer| peer.state)
    }

    fn all_see(&self, state: PeerState, of: u64) -> bool {
        self.nodes.keys().filter(|at| **at != of).all(|at| self.state(*at, of) == state)
    }

    fn is_whole(&self) -> bool {
        (1..=self.size).all(|node| self.all_see(PeerState::Alive, node))
    }

    /// Waits, in paused time, until `condition`; says how long it took.
    async fn until(&self, most: Duration, what: &str, condition: impl Fn(&Self) -> bool) -> Duration {
        let begin = Instant::now();
        while !condition(self) {
            let states = |at: &u64| (1..=self.size).map(|of| self.state(*at, of)).collect::<Vec<_>>();
            let seen: Vec<_> = self.nodes.keys().map(|at| (at, states(at))).collect();
            assert!(begin.elapsed() <= most, "not within {most:?}: {what}; {seen:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        begin.elapsed()
    }

    async fn until_whole(&self, most: Duration) {
        self.until(most, "everybody sees everybody", Self::is_whole).await;
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn five_nodes_find_each_other() {
    Mesh::of(5).until_whole(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_just_started_calls_nobody_dead_before_it_could_have_heard_of_them() {
    let mut mesh = Mesh::of(4);
    mesh.until_whole(SECOND).await;
    mesh.kill(3).await;
    mesh.until(2 * SECOND, "3 is down", |mesh| mesh.all_see(PeerState::Down, 3)).await;
    mesh.kill(4).await;
    (1..=2).for_each(|other| mesh.cut(4, other));
    mesh.start(4, 2_000_000);
    let unheard_for = Config::default().unheard_for();
    tokio::time::sleep(unheard_for - SECOND / 2).await;
    assert!((1..=3).all(|of| mesh.state(4, of) == PeerState::Unheard), "they may be there");
    let view = mesh.nodes[&4].view();
    assert!(!view.is_down(NodeId(1)) && !view.is_alive(NodeId(1)) && view.alive().count() == 1);
    // Whoever is heard first, the other is not called dead for that.
    mesh.heal();
    let view = mesh.nodes[&4].watch();
    mesh.until(SECOND / 2, "it hears both", |mesh| {
        assert!((1..=2).all(|of| !view.borrow().is_down(NodeId(of))), "{:?}", view.borrow());
        (1..=2).all(|of| mesh.state(4, of) == PeerState::Alive)
    })
    .await;
    mesh.until(SECOND, "it knows who is dead", |mesh| mesh.all_see(PeerState::Down, 3)).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_hears_nobody_calls_them_dead_in_the_end() {
    let mut mesh = Mesh::of(3);
    mesh.until_whole(SECOND).await;
    mesh.kill(1).await;
    (2..=3).for_each(|other| mesh.cut(1, other));
    mesh.start(1, 2_000_000);
    let unheard_for = Config::default().unheard_for();
    mesh.until(SECOND, "it looks for them", |mesh| mesh.state(1, 2) == PeerState::Unheard).await;
    let took = mesh.until(unheard_for + SECOND, "it is alone", |mesh| mesh.state(1, 2) == PeerState::Down).await;
    assert!(took >= unheard_for - SECOND / 10 && mesh.state(1, 3) == PeerState::Down, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn twenty_nodes_find_each_other_and_one_dead_among_them() {
    let mut mesh = Mesh::of(20);
    mesh.until_whole(SECOND).await;
    mesh.kill(7).await;
    mesh.until(2 * SECOND, "7 is down", |mesh| mesh.all_see(PeerState::Down, 7)).await;
}

#[tokio::test(start_paused = true)]
async fn a_killed_node_is_down_everywhere_within_two_seconds() {
    for size in 2..=5 {
        // At whatever moment of the periods it happens.
        for delay_ms in [0, 130, 490, 990] {
            let mut mesh = Mesh::of(size);
            mesh.until_whole(SECOND).await;
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
            mesh.kill(size).await;
            mesh.until(2 * SECOND, "it is down", |mesh| mesh.all_see(PeerState::Down, size)).await;
            let rest = mesh.size - 1;
            assert!((1..=rest).all(|node| mesh.all_see(PeerState::Alive, node)), "only the dead one is down");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopped_node_is_down_within_two_seconds_and_back_in_one() {
    let mesh = Mesh::of(3);
    mesh.until_whole(SECOND).await;
    mesh.cut(3, 1);
    mesh.cut(3, 2);
    mesh.until(2 * SECOND, "3 is down", |mesh| {
        mesh.state(1, 3) == PeerState::Down && mesh.state(2, 3) == PeerState::Down
    })
    .await;
    tokio::time::sleep(30 * SECOND).await;
    mesh.heal();
    mesh.until_whole(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_healed_partition_converges_in_about_a_second() {
    let mesh = Mesh::of(5);
    mesh.until_whole(SECOND).await;
    for (one, other) in [(1, 3), (1, 4), (1, 5), (2, 3), (2, 4), (2, 5)] {
        mesh.cut(one, other);
    }
    mesh.until(2 * SECOND, "each side gave the other up", |mesh| {
        mesh.state(1, 5) == PeerState::Down && mesh.state(5, 1) == PeerState::Down
    })
    .await;
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!((mesh.state(1, 2), mesh.state(3, 5)), (PeerState::Alive, PeerState::Alive));
    mesh.heal();
    mesh.until_whole(Duration::from_millis(1_500)).await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_node_is_accepted_at_once() {
    let mut mesh = Mesh::of(3);
    mesh.until_whole(SECOND).await;
    mesh.nodes[&3].publish_load(Load { in_flight: 9, ..Load::default() });
    let load_of_3 = |mesh: &Mesh| mesh.nodes[&1].view().peers[&NodeId(3)].load.clone();
    mesh.until(SECOND, "the load of 3 is known", |mesh| load_of_3(mesh).in_flight == 9).await;
    // Before anybody missed it.
    mesh.kill(3).await;
    mesh.start(3, 2_000_000);
    mesh.until(SECOND, "the new life is seen, its load too", |mesh| mesh.is_whole() && load_of_3(mesh).in_flight == 0)
        .await;
    // After it was given up.
    mesh.kill(3).await;
    mesh.until(2 * SECOND, "3 is down", |mesh| mesh.all_see(PeerState::Down, 3)).await;
    assert_eq!(load_of_3(&mesh), Load::default());
    mesh.start(3, 3_000_000);
    mesh.until_whole(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_not_measured_itself_yet_does_not_seem_idle() {
    let mut mesh = Mesh::of(2);
    let cpu_of_2 = |mesh: &Mesh| mesh.nodes[&1].view().peers[&NodeId(2)].load.cpu_permille;
    mesh.until_whole(SECOND).await;
    assert_eq!(cpu_of_2(&mesh), 1_000);
    mesh.nodes[&2].publish_load(Load { cpu_permille: 40, ..Load::default() });
    mesh.until(SECOND, "its figures are known", |mesh| cpu_of_2(mesh) == 40).await;
    mesh.kill(2).await;
    mesh.until(2 * SECOND, "2 is down", |mesh| mesh.all_see(PeerState::Down, 2)).await;
    mesh.start(2, 3_000_000);
    mesh.until_whole(SECOND).await;
    assert_eq!(cpu_of_2(&mesh), 1_000, "its next life has figures of its own");
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_clock_went_back_is_accepted_all_the_same() {
    for waits in [false, true] {
        let mut mesh = Mesh::of(3);
        mesh.until_whole(SECOND).await;
        mesh.kill(2).await;
        if waits {
            mesh.until(2 * SECOND, "2 is down", |mesh| mesh.all_see(PeerState::Down, 2)).await;
        }
        mesh.start(2, 5);
        mesh.until_whole(2 * SECOND).await;
        mesh.nodes[&2].publish_load(Load { in_flight: 7, ..Load::default() });
        mesh.until(SECOND, "its load is believed", |mesh| mesh.nodes[&1].view().peers[&NodeId(2)].load.in_flight == 7)
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn load_spreads_in_a_period_and_draining_at_once() {
    let mesh = Mesh::of(4);
    mesh.until_whole(SECOND).await;
    let seen =
        |mesh: &Mesh, check: fn(&Load) -> bool| (1..=4).all(|at| check(&mesh.nodes[&at].view().peers[&NodeId(2)].load));
    mesh.nodes[&2].publish_load(Load { in_flight: 5, warm: vec![(1, 2)], ..Load::default() });
    mesh.until(Duration::from_millis(700), "load of 2", |mesh| {
        seen(mesh, |load| load.in_flight == 5 && load.warm == [(1, 2)])
    })
    .await;
    mesh.nodes[&2].publish_load(Load { is_draining: true, ..Load::default() });
    mesh.until(Duration::from_millis(150), "2 drains", |mesh| seen(mesh, |load| load.is_draining)).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_leaves_is_down_at_once_and_stays_so() {
    let mesh = Mesh::of(4);
    mesh.until_whole(SECOND).await;
    mesh.nodes[&4].leave().await;
    mesh.until(Duration::from_millis(500), "4 has left", |mesh| mesh.all_see(PeerState::Down, 4)).await;
    tokio::time::sleep(10 * SECOND).await;
    assert!(mesh.all_see(PeerState::Down, 4));
}

#[tokio::test(start_paused = true)]
async fn who_is_not_in_the_catalogue_does_not_exist() {
    let mesh = Mesh::of(4);
    mesh.until_whole(SECOND).await;
    let members: BTreeSet<_> = [1, 2, 3].map(NodeId).into();
    // Only 1 has heard of the removal: the others go on gossiping about 4.
    mesh.nodes[&1].retain(&members);
    for _ in 0..50 {
        tokio::time::sleep(SECOND / 10).await;
        assert!(!mesh.nodes[&1].view().peers.contains_key(&NodeId(4)));
        // 4 may suspect 1, which it cannot hear any more, but 1 objects through the others.
        let is_up = |at, of| mesh.state(at, of) != PeerState::Down;
        assert!((2..=3).all(|node| is_up(1, node) && is_up(node, 1)));
    }
    mesh.nodes[&1].announce([NodeId(4)]);
    mesh.until_whole(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_broken_link_between_two_nodes_takes_neither_down() {
    let mesh = Mesh::of(4);
    mesh.until_whole(SECOND).await;
    mesh.cut(1, 2);
    for _ in 0..600 {
        tokio::time::sleep(SECOND / 10).await;
        for (at, of) in [(1, 2), (2, 1), (3, 1), (4, 2)] {
            assert_ne!(mesh.state(at, of), PeerState::Down, "{at} gave {of} up");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn lost_datagrams_take_nobody_down() {
    let mesh = Mesh::of(5);
    mesh.net.lock().unwrap().loss = 20;
    mesh.until_whole(2 * SECOND).await;
    for _ in 0..600 {
        tokio::time::sleep(SECOND / 10).await;
        assert!(mesh.nodes.values().all(|node| node.view().alive().count() == 5));
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_fills_the_inbox_and_harms_nobody() {
    let mesh = Mesh::of(2);
    mesh.until_whole(SECOND).await;
    let service = mesh.nodes[&1].service();
    for from in [2, 3] {
        for length in 0..5_000_usize {
            service.datagram(NodeId(from), Bytes::from(vec![1; length % 1_100]));
        }
    }
    tokio::time::sleep(5 * SECOND).await;
    assert!(mesh.is_whole());
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_and_the_last_view_stays() {
    let mut mesh = Mesh::of(2);
    mesh.until_whole(SECOND).await;
    let membership = mesh.nodes.remove(&1).unwrap();
    membership.shutdown().await;
    membership.leave().await;
    assert!(membership.view().is_alive(NodeId(2)));
}

/// Two nodes that know each other, without any network.
fn pair(now: Instant) -> (Swim, Vec<Bytes>, watch::Sender<Roster>) {
    let (roster, known) = watch::channel(Roster::from([NodeId(1), NodeId(2)]));
    let [mut one, mut two] = [1, 2].map(|node| {
        let me = Identity { node: NodeId(node), incarnation: 100 };
        Swim::new(&Config::default(), me, known.clone(), now)
    });
    let mut valid = Vec::new();
    for step in 0..20 {
        let at = now + Duration::from_millis(50 * step);
        two.wake(at);
        one.wake(at);
        for (_, body) in two.take_datagrams() {
            one.receive(NodeId(2), &body, at);
            valid.push(body);
        }
        one.take_datagrams().into_iter().for_each(|(_, body)| two.receive(NodeId(1), &body, at));
    }
    assert!(one.view(Instant::now()).is_alive(NodeId(2)));
    (one, valid, roster)
}

fn check_survives(swim: &mut Swim, from: u64, body: &[u8], now: Instant) {
    swim.receive(NodeId(from), body, now);
    swim.wake(now);
    swim.take_datagrams();
    let view: View = swim.view(Instant::now());
    assert_eq!(view.peers.len(), 2);
    assert_eq!(view.peers[&NodeId(1)].state, PeerState::Alive);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_changes_nothing(bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..20)) {
        let now = Instant::now();
        let (mut swim, _, _roster) = pair(now);
        let before = swim.view(Instant::now());
        for body in &bodies {
            check_survives(&mut swim, 2, body, now);
            check_survives(&mut swim, 3, body, now);
        }
        prop_assert_eq!(before.peers[&NodeId(2)].state, swim.view(Instant::now()).peers[&NodeId(2)].state);
    }

    #[test]
    fn damaged_messages_never_panic(damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..60)) {
        let now = Instant::now();
        let (mut swim, valid, _roster) = pair(now);
        for (which, place, byte, cuts) in damage {
            let mut body = which.get(&valid).to_vec();
            let place = place.index(body.len());
            body[place] = byte;
            if cuts {
                body.truncate(place);
            }
            check_survives(&mut swim, 2, &body, now + Duration::from_secs(1));
        }
    }
}

#[tokio::test]
async fn a_message_in_anothers_name_is_refused() {
    let now = Instant::now();
    let (mut swim, valid, roster) = pair(now);
    roster.send_modify(|roster| {
        roster.insert(NodeId(3));
    });
    swim.roster_changed(now);
    swim.take_datagrams();
    for body in valid.iter().filter(|body| body[0] == 1) {
        swim.receive(NodeId(3), body, now);
    }
    assert_eq!(swim.take_datagrams(), []);
    assert!(!swim.view(Instant::now()).is_alive(NodeId(3)));
}

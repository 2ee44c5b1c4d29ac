//! The gate alone, and on a mesh of which only the answers are there.

use std::sync::Arc;

use super::*;

/// What this node is told when it asks what was committed.
#[derive(Clone, Copy)]
enum Answers {
    NoQuorum,
    /// A leader answers, and writes an entry each millisecond, which is here so much later.
    Leader(Duration),
}

const CURRENT: Answers = Answers::Leader(Duration::ZERO);
/// What the leader has does not get here.
const NOT_HERE: Answers = Answers::Leader(Duration::MAX);

/// A mesh of which this node holds a catalogue.
struct Mesh {
    began: Instant,
    answers: watch::Sender<Answers>,
}

impl Mesh {
    fn new(answers: Answers) -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), answers: watch::Sender::new(answers) })
    }

    fn answer(&self, answers: Answers) {
        self.answers.send_replace(answers);
    }
}

#[async_trait]
impl Group for Mesh {
    async fn committed(&self, _: Instant) -> Result<u64, Failure> {
        match *self.answers.borrow() {
            Answers::NoQuorum => Err(Failure::not_executed(ErrorCode::NoQuorum, "nobody answers")),
            Answers::Leader(_) => Ok(u64::try_from(self.began.elapsed().as_millis()).unwrap()),
        }
    }

    async fn applied(&self, index: u64) {
        let mut answers = self.answers.subscribe();
        loop {
            let answer = *answers.borrow_and_update();
            let here = match answer {
                Answers::NoQuorum => None,
                Answers::Leader(late) => Duration::from_millis(index).checked_add(late),
            };
            let here_at = here.and_then(|here| self.began.checked_add(here));
            let here = async {
                match here_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = here => return,
                changed = answers.changed() => changed.unwrap(),
            }
        }
    }

    fn has_catalog(&self) -> bool {
        true
    }
}

/// Keeps the freshness of a node on a mesh, until dropped.
fn kept(freshness: &Arc<Freshness>, mesh: &Arc<Mesh>) -> tokio_util::sync::DropGuard {
    let (freshness, mesh, stop) = (freshness.clone(), mesh.clone(), CancellationToken::new());
    let stopped = stop.clone();
    tokio::spawn(async move { freshness.keep(&*mesh, stopped).await });
    stop.drop_guard()
}

/// Waits until it is in this state; says how long that took.
async fn until(freshness: &Freshness, wanted: State) -> Duration {
    let began = Instant::now();
    let mut state = freshness.state.subscribe();
    let reached = timeout(Duration::from_secs(600), state.wait_for(|state| *state == wanted)).await;
    assert!(reached.is_ok_and(|reached| reached.is_ok()), "{wanted:?} is never reached");
    began.elapsed()
}

const CATCH_UP: Duration = Duration::from_secs(5);

/// The freshness of a node that nobody ever says was removed.
fn freshness(is_new: bool) -> Freshness {
    Freshness::new(CATCH_UP, is_new, watch::channel(None).1)
}

/// The freshness of a node that resumes, and who says that it was removed.
fn told() -> (Arc<Freshness>, watch::Sender<Option<NodeId>>) {
    let (told, removal) = watch::channel(None);
    (Arc::new(Freshness::new(CATCH_UP, false, removal)), told)
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_behind_sends_its_callers_away_with_a_time_to_come_back() {
    let freshness = freshness(true);
    let failure = freshness.until_serving().await.unwrap_err();
    assert_eq!((failure.code, failure.retry_after_ms), (ErrorCode::Unavailable, Some(1_000)));
    freshness.beat();
    freshness.state.send_replace(State::Current);
    freshness.until_serving().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_node_without_a_majority_goes_on_with_what_it_has_after_a_stop_too() {
    let freshness = freshness(true);
    freshness.state.send_replace(State::Alone);
    tokio::time::advance(STOPPED_AFTER).await;
    assert!(freshness.is_serving());
    assert!(freshness.was_stopped());
    assert!(freshness.is_serving());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_stopped_serves_nothing_until_it_has_asked_again() {
    let freshness = freshness(true);
    freshness.beat();
    freshness.state.send_replace(State::Current);
    assert!(freshness.is_serving());
    tokio::time::advance(STOPPED_AFTER).await;
    assert!(!freshness.is_serving(), "by the first request after it, before anything else has run");
    assert_eq!(freshness.check().unwrap_err().code, ErrorCode::Unavailable);
    assert!(freshness.was_stopped());
    assert_eq!(*freshness.state.borrow(), State::Behind, "its pulse alone does not open it again");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_just_joined_waits_for_a_majority_and_one_that_was_current_only_for_a_while() {
    let (freshness, mesh) = (Arc::new(freshness(true)), Mesh::new(Answers::NoQuorum));
    let _kept = kept(&freshness, &mesh);
    freshness.settled(Instant::now() + CATCH_UP * 20).await.unwrap_err();
    assert_eq!(*freshness.state.borrow(), State::Behind, "it has nothing to serve");
    mesh.answer(CURRENT);
    until(&freshness, State::Current).await;
    // The mesh loses its majority, and then this process is stopped.
    mesh.answer(Answers::NoQuorum);
    tokio::time::advance(STOPPED_AFTER).await;
    assert!(!freshness.is_serving());
    assert!(until(&freshness, State::Alone).await >= CATCH_UP);
    assert!(freshness.is_serving());
    mesh.answer(CURRENT);
    until(&freshness, State::Current).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_knows_that_it_is_behind_serves_nothing_however_long_that_is_so() {
    let (freshness, mesh) = (Arc::new(freshness(false)), Mesh::new(NOT_HERE));
    let _kept = kept(&freshness, &mesh);
    until(&freshness, State::Lagging).await;
    // Not even at its deadline is it told to end: what it waits for is on its way.
    assert!(timeout(CATCH_UP * 20, freshness.settled(Instant::now() + CATCH_UP)).await.is_err());
    assert!(!freshness.is_serving());
    let failure = freshness.check().unwrap_err();
    assert!(failure.message.contains("lacks what the mesh has decided"), "{failure}");
    // Only from now on does nobody answer.
    mesh.answer(Answers::NoQuorum);
    assert!(until(&freshness, State::Alone).await >= CATCH_UP);
    mesh.answer(NOT_HERE);
    until(&freshness, State::Lagging).await;
    mesh.answer(CURRENT);
    until(&freshness, State::Current).await;
    assert!(freshness.is_serving());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_always_a_little_behind_waits_for_what_a_leader_named_first() {
    let late = APPLY_PATIENCE + APPLY_PATIENCE / 2;
    let (freshness, mesh) = (Arc::new(freshness(false)), Mesh::new(Answers::Leader(late)));
    let began = Instant::now();
    let _kept = kept(&freshness, &mesh);
    until(&freshness, State::Lagging).await;
    until(&freshness, State::Current).await;
    assert!((late..late + Duration::from_secs(1)).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_removed_while_it_was_away_serves_nothing_and_ends() {
    let ((freshness, told), mesh) = (told(), Mesh::new(Answers::NoQuorum));
    let _kept = kept(&freshness, &mesh);
    // Not the first word, but all of its patience without a leader.
    told.send_replace(Some(NodeId(2)));
    assert!(until(&freshness, State::Removed(NodeId(2))).await >= CATCH_UP);
    assert_eq!(freshness.removed().await, NodeId(2));
    assert!(!freshness.is_serving());
    let failure = freshness.check().unwrap_err();
    assert!(failure.message.contains("was removed from the mesh, says node 2"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_cut_off_closes_at_the_first_word_of_its_removal() {
    let ((freshness, told), mesh) = (told(), Mesh::new(CURRENT));
    let _kept = kept(&freshness, &mesh);
    until(&freshness, State::Current).await;
    mesh.answer(Answers::NoQuorum);
    tokio::time::sleep(CATCH_UP * 10).await;
    assert!(freshness.is_serving(), "by what it has, as any node that is cut off");
    told.send_replace(Some(NodeId(2)));
    until(&freshness, State::Behind).await;
    // Said again and again, it is asked for no longer than once.
    let again = async {
        loop {
            told.send_replace(Some(NodeId(3)));
            tokio::time::sleep(CATCH_UP / 10).await;
        }
    };
    tokio::select! {
        () = again => {}
        _ = freshness.removed() => {}
    }
    assert!(!freshness.is_serving());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_serves_alone_closes_at_the_first_word_of_its_removal() {
    let ((freshness, told), mesh) = (told(), Mesh::new(Answers::NoQuorum));
    let _kept = kept(&freshness, &mesh);
    until(&freshness, State::Alone).await;
    // It asks all the time. What it asked before the word does not count.
    tokio::time::sleep(CATCH_UP - BEAT).await;
    told.send_replace(Some(NodeId(2)));
    until(&freshness, State::Behind).await;
    assert!(until(&freshness, State::Removed(NodeId(2))).await >= CATCH_UP);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_removed_while_it_catches_up_does_not_open_by_what_it_asked_before() {
    let late = Duration::from_secs(1);
    let ((freshness, told), mesh) = (told(), Mesh::new(Answers::Leader(late)));
    let _kept = kept(&freshness, &mesh);
    tokio::time::sleep(late / 10).await;
    told.send_replace(Some(NodeId(2)));
    tokio::time::sleep(BEAT).await;
    // The leader was removed itself, say.
    mesh.answer(Answers::NoQuorum);
    until(&freshness, State::Removed(NodeId(2))).await;
}

#[tokio::test(start_paused = true)]
async fn a_word_that_a_leader_has_refuted_is_forgotten() {
    let late = Duration::from_secs(1);
    let ((freshness, told), mesh) = (told(), Mesh::new(Answers::Leader(late)));
    let _kept = kept(&freshness, &mesh);
    tokio::time::sleep(late / 10).await;
    told.send_replace(Some(NodeId(2)));
    until(&freshness, State::Current).await;
    // The next one counts, and where there is none, nothing is left of it.
    told.send_replace(Some(NodeId(3)));
    until(&freshness, State::Behind).await;
    until(&freshness, State::Current).await;
    mesh.answer(Answers::NoQuorum);
    tokio::time::advance(STOPPED_AFTER).await;
    until(&freshness, State::Alone).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_knows_a_node_refutes_who_says_that_it_was_removed() {
    let ((freshness, told), mesh) = (told(), Mesh::new(CURRENT));
    let _kept = kept(&freshness, &mesh);
    until(&freshness, State::Current).await;
    for liar in 2..5 {
        told.send_replace(Some(NodeId(liar)));
        tokio::time::sleep(BEAT).await;
        assert_eq!(*freshness.state.borrow(), State::Current, "the leader was asked, and it is as new as that");
    }
    mesh.answer(Answers::NoQuorum);
    tokio::time::advance(STOPPED_AFTER).await;
    until(&freshness, State::Alone).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_answers_a_node_that_lags_refutes_who_says_that_it_was_removed() {
    let ((freshness, told), mesh) = (told(), Mesh::new(NOT_HERE));
    let _kept = kept(&freshness, &mesh);
    until(&freshness, State::Lagging).await;
    told.send_replace(Some(NodeId(2)));
    tokio::time::sleep(CATCH_UP * 10).await;
    assert_eq!(*freshness.state.borrow(), State::Lagging);
    assert!(!freshness.check().unwrap_err().message.contains("removed"));
    mesh.answer(Answers::NoQuorum);
    until(&freshness, State::Alone).await;
}

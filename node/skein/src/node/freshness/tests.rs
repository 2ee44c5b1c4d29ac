//! The gate alone, and on a mesh of which only the answers are there.

use std::sync::{Arc, Mutex};

use skein_catalog::{Applied, Catalog, Command, Proposal, RequestId, Watch};
use skein_proto::MeshId;

use super::*;

/// What this node is told when it asks what was committed.
#[derive(Clone, Copy)]
enum Answers {
    Current,
    NoQuorum,
    /// A leader answers, and what it has does not get here.
    NotHere,
}

/// A mesh of which this node holds a catalogue.
struct Mesh {
    answers: Mutex<Answers>,
    catalog: Arc<Catalog>,
}

impl Mesh {
    fn new(answers: Answers) -> Arc<Self> {
        let mut catalog = Catalog::default();
        let (request, command) = (RequestId(uuid::Uuid::now_v7()), Command::Found { mesh: MeshId::random() });
        catalog.apply(1, &Proposal { request, at_ms: 0, command });
        Arc::new(Self { answers: Mutex::new(answers), catalog: Arc::new(catalog) })
    }

    fn answer(&self, answers: Answers) {
        *self.answers.lock().unwrap() = answers;
    }
}

#[async_trait]
impl Propose for Mesh {
    async fn propose(&self, _: RequestId, _: Command, _: Instant) -> Result<Applied, Failure> {
        Err(Failure::not_executed(ErrorCode::NoQuorum, "only questions are asked"))
    }

    async fn read_index(&self, deadline: Instant) -> Result<u64, Failure> {
        let answers = *self.answers.lock().unwrap();
        match answers {
            Answers::Current => Ok(1),
            Answers::NoQuorum => Err(Failure::not_executed(ErrorCode::NoQuorum, "nobody answers")),
            Answers::NotHere => {
                tokio::time::sleep_until(deadline).await;
                Err(Failure::executed(ErrorCode::Unavailable, "committed at index 9, which is not applied yet"))
            }
        }
    }

    fn catalog(&self) -> Arc<Catalog> {
        self.catalog.clone()
    }

    fn watch(&self) -> Watch {
        tokio::sync::watch::channel(self.catalog.clone()).1
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

#[tokio::test(start_paused = true)]
async fn a_node_that_is_behind_sends_its_callers_away_with_a_time_to_come_back() {
    let freshness = Freshness::new(CATCH_UP, true);
    let failure = freshness.until_serving().await.unwrap_err();
    assert_eq!((failure.code, failure.retry_after_ms), (ErrorCode::Unavailable, Some(1_000)));
    freshness.beat();
    freshness.state.send_replace(State::Current);
    freshness.until_serving().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_node_without_a_majority_goes_on_with_what_it_has_after_a_stop_too() {
    let freshness = Freshness::new(CATCH_UP, true);
    freshness.state.send_replace(State::Alone);
    tokio::time::advance(STOPPED_AFTER).await;
    assert!(freshness.is_serving());
    assert!(freshness.was_stopped());
    assert!(freshness.is_serving());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_stopped_serves_nothing_until_it_has_asked_again() {
    let freshness = Freshness::new(CATCH_UP, true);
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
    let (freshness, mesh) = (Arc::new(Freshness::new(CATCH_UP, true)), Mesh::new(Answers::NoQuorum));
    let _kept = kept(&freshness, &mesh);
    freshness.settled(Instant::now() + CATCH_UP * 20).await.unwrap_err();
    assert_eq!(*freshness.state.borrow(), State::Behind, "it has nothing to serve");
    mesh.answer(Answers::Current);
    until(&freshness, State::Current).await;
    // The mesh loses its majority, and then this process is stopped.
    mesh.answer(Answers::NoQuorum);
    tokio::time::advance(STOPPED_AFTER).await;
    assert!(!freshness.is_serving());
    assert!(until(&freshness, State::Alone).await >= CATCH_UP);
    assert!(freshness.is_serving());
    mesh.answer(Answers::Current);
    until(&freshness, State::Current).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_knows_that_it_is_behind_serves_nothing_however_long_that_is_so() {
    let (freshness, mesh) = (Arc::new(Freshness::new(CATCH_UP, false)), Mesh::new(Answers::NotHere));
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
    mesh.answer(Answers::NotHere);
    until(&freshness, State::Lagging).await;
    mesh.answer(Answers::Current);
    until(&freshness, State::Current).await;
    assert!(freshness.is_serving());
}

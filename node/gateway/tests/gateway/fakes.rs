//! Fakes of the three seams: a function that does what a test says, a catalogue without a log, a node without a mesh.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use skein_catalog::{
    Applied, Catalog, Command, MemberRole, Outcome, Proposal, Propose, RequestId, VersionRecord, Watch,
};
use skein_gateway::{
    Operations,
    api::{
        ConsensusStatus, Done, MeshStatus, MoveReport, MoveRequest, NodeStatus, PublishReport, PublishRequest,
        PublishTimings, TokenCreated, WhyReport, WhyTimes,
    },
};
use skein_proto::{
    Digest, ErrorCode, Failure, FunctionId, Invocation, InvocationId, Invoke, NodeId, NodeName, Reply, Start, Usage,
    VersionId,
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

pub(crate) type Behaviour = Box<dyn Fn(Invocation) -> BoxFuture<'static, Result<Reply, Failure>> + Send + Sync>;

/// Does what the test says; remembers what it was asked, and whether a call was dropped before its end.
pub(crate) struct FakeInvoke {
    behaviour: Mutex<Behaviour>,
    pub(crate) seen: Mutex<Vec<Invocation>>,
    pub(crate) entered: Notify,
    pub(crate) dropped: Notify,
    pub(crate) cancelled: AtomicUsize,
}

impl FakeInvoke {
    pub(crate) fn new() -> Self {
        Self {
            behaviour: Mutex::new(Box::new(|call| Box::pin(async move { Ok(echo(&call)) }))),
            seen: Mutex::default(),
            entered: Notify::new(),
            dropped: Notify::new(),
            cancelled: AtomicUsize::new(0),
        }
    }

    /// From now on calls do this.
    pub(crate) fn set<F>(&self, behaviour: impl Fn(Invocation) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<Reply, Failure>> + Send + 'static,
    {
        *self.behaviour.lock().unwrap() = Box::new(move |call| Box::pin(behaviour(call)));
    }

    pub(crate) fn last(&self) -> Invocation {
        self.seen.lock().unwrap().last().cloned().expect("a call arrived")
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

pub(crate) fn echo(call: &Invocation) -> Reply {
    Reply {
        payload: call.payload.clone(),
        version: VersionId { function: FunctionId(1), number: 1 },
        node: NodeId(1),
        start: Start::Warm,
        usage: Usage { queue_us: 10, run_us: 2_500, ..Usage::default() },
    }
}

#[async_trait]
impl Invoke for FakeInvoke {
    async fn invoke(&self, invocation: Invocation) -> Result<Reply, Failure> {
        struct OnDrop<'a>(&'a FakeInvoke, bool);
        impl Drop for OnDrop<'_> {
            fn drop(&mut self) {
                if !self.1 {
                    self.0.cancelled.fetch_add(1, Ordering::SeqCst);
                    self.0.dropped.notify_one();
                }
            }
        }
        self.seen.lock().unwrap().push(invocation.clone());
        let mut guard = OnDrop(self, false);
        let running = (self.behaviour.lock().unwrap())(invocation);
        self.entered.notify_one();
        let outcome = running.await;
        guard.1 = true;
        outcome
    }
}

/// A catalogue that applies at once, on this node alone.
pub(crate) struct FakePropose {
    catalog: watch::Sender<Arc<Catalog>>,
    pub(crate) has_quorum: AtomicBool,
}

impl FakePropose {
    pub(crate) fn new() -> Self {
        Self { catalog: watch::channel(Arc::new(Catalog::default())).0, has_quorum: AtomicBool::new(true) }
    }

    /// How many wait for a change of the catalogue.
    pub(crate) fn watchers(&self) -> usize {
        self.catalog.receiver_count()
    }

    pub(crate) fn apply(&self, request: RequestId, command: Command) -> Applied {
        let mut applied = None;
        self.catalog.send_modify(|catalog| {
            let mut next = (**catalog).clone();
            let index = next.index() + 1;
            let outcome = next.apply(index, &Proposal { request, at_ms: 1_000, command });
            *catalog = Arc::new(next);
            applied = Some(Applied { index, outcome });
        });
        applied.unwrap()
    }
}

#[async_trait]
impl Propose for FakePropose {
    async fn propose(&self, request: RequestId, command: Command, _deadline: Instant) -> Result<Applied, Failure> {
        if !self.has_quorum.load(Ordering::SeqCst) {
            return Err(Failure::not_executed(ErrorCode::NoQuorum, "no majority answers"));
        }
        let applied = self.apply(request, command);
        match applied.outcome {
            Outcome::Refused { code, message } => Err(Failure::not_executed(code, message)),
            _ => Ok(applied),
        }
    }

    async fn read_index(&self, _deadline: Instant) -> Result<u64, Failure> {
        Ok(self.catalog().index())
    }

    fn catalog(&self) -> Arc<Catalog> {
        self.catalog.borrow().clone()
    }

    fn watch(&self) -> Watch {
        self.catalog.subscribe()
    }
}

/// The one call that was made.
pub(crate) const CALL: InvocationId = InvocationId(uuid::Uuid::from_u128(5));

/// A node that stores nothing and knows nobody.
pub(crate) struct FakeOperations {
    pub(crate) stored: Mutex<Vec<Bytes>>,
    pub(crate) published: Mutex<Vec<(PublishRequest, String, RequestId)>>,
    pub(crate) readiness: Mutex<Result<(), Failure>>,
    pub(crate) token: Mutex<Option<(Duration, Option<MemberRole>)>>,
    /// An artifact that nobody has any more.
    pub(crate) lost: Mutex<Option<Digest>>,
}

impl FakeOperations {
    pub(crate) fn new() -> Self {
        Self {
            stored: Mutex::default(),
            published: Mutex::default(),
            readiness: Mutex::new(Ok(())),
            token: Mutex::default(),
            lost: Mutex::default(),
        }
    }

    fn known(node: &NodeName) -> Result<Done, Failure> {
        match node.as_str() {
            "node-1" => Ok(Done { index: 7 }),
            other => Err(Failure::not_executed(ErrorCode::NotFound, format!("there is no node `{other}`"))),
        }
    }
}

#[async_trait]
impl Operations for FakeOperations {
    async fn put_artifact(&self, bytes: Bytes) -> Result<Digest, Failure> {
        let digest = Digest::of(&bytes);
        self.stored.lock().unwrap().push(bytes);
        Ok(digest)
    }

    async fn publish(
        &self,
        publish: PublishRequest,
        author: String,
        request: RequestId,
    ) -> Result<PublishReport, Failure> {
        let report = PublishReport {
            app: publish.manifest.app.clone(),
            name: publish.manifest.name.clone(),
            version: 2,
            digest: publish.digest,
            size: 3,
            index: 9,
            alias: publish.alias.clone(),
            holders: Vec::new(),
            copies_missing: 0,
            serving: Vec::new(),
            pending: Vec::new(),
            timings: PublishTimings::default(),
        };
        self.published.lock().unwrap().push((publish, author, request));
        Ok(report)
    }

    async fn nodes(&self) -> Vec<NodeStatus> {
        Vec::new()
    }

    async fn status(&self) -> MeshStatus {
        MeshStatus {
            mesh: None,
            node: "node-1".parse().unwrap(),
            release: "0.1.0".to_owned(),
            index: 1,
            consensus: ConsensusStatus {
                has_quorum: true,
                leader: None,
                term: 1,
                committed_index: 1,
                voters: Vec::new(),
                learners: Vec::new(),
            },
            nodes: Vec::new(),
            functions: 1,
            versions: 1,
            activations: Vec::new(),
            warnings: Vec::new(),
        }
    }

    async fn why(&self, invocation: InvocationId) -> Result<WhyReport, Failure> {
        if invocation != CALL {
            return Err(Failure::not_executed(ErrorCode::NotFound, "no node keeps it"));
        }
        Ok(WhyReport {
            invocation,
            function: Some("shop/price@1".to_owned()),
            app: Some("shop".parse().unwrap()),
            taken_by: "node-1".parse().unwrap(),
            at_ms: 1,
            caller: None,
            depth: 0,
            ran_on: None,
            start: None,
            placed: String::new(),
            started: String::new(),
            failure: None,
            candidates: Vec::new(),
            candidates_total: 0,
            rankings: 1,
            attempts: Vec::new(),
            times: WhyTimes::default(),
            made: Vec::new(),
        })
    }

    async fn drain(&self, node: &NodeName, _: bool) -> Result<Done, Failure> {
        Self::known(node)
    }

    async fn resume(&self, node: &NodeName) -> Result<Done, Failure> {
        Self::known(node)
    }

    async fn remove(&self, node: &NodeName, _: bool) -> Result<Done, Failure> {
        Self::known(node)
    }

    async fn secure_code(&self, version: &VersionRecord) -> Result<(), Failure> {
        match &*self.lost.lock().unwrap() {
            Some(lost) if *lost == version.digest => {
                Err(Failure::not_executed(ErrorCode::ArtifactUnavailable, "no node has it"))
            }
            _ => Ok(()),
        }
    }

    async fn move_version(&self, version: VersionId, request: MoveRequest) -> Result<MoveReport, Failure> {
        Self::known(&request.from)?;
        Ok(MoveReport {
            app: "shop".parse().unwrap(),
            name: "price".parse().unwrap(),
            version: version.number,
            from: request.from,
            to: request.to,
            running: 0,
            warm_us: 1,
            release_us: 1,
        })
    }

    async fn create_token(&self, ttl: Duration, role: Option<MemberRole>) -> Result<TokenCreated, Failure> {
        *self.token.lock().unwrap() = Some((ttl, role));
        Ok(TokenCreated { token: "skein1.x".to_owned(), expires_ms: 5 })
    }

    fn config(&self) -> serde_json::Value {
        serde_json::json!({ "http": { "value": "127.0.0.1:7080", "source": "default" } })
    }

    fn readiness(&self) -> Result<(), Failure> {
        self.readiness.lock().unwrap().clone()
    }
}

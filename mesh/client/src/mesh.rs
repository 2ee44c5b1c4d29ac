//! The handle to a mesh: which node to ask, and whether to ask another.

use std::{
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use skein_proto::{
    ErrorCode, Failure, FunctionRef, Invocation, InvocationTarget, Invoke, Limits, ParseError, Reply, codec,
};
use skein_transport::{CaPin, RetryBudget, Service, Stranger};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};

use crate::{
    Context, Function,
    beside::{Ended, beside},
    link::{Entry, Link},
    next::{Next, Settled, is_lost_with_it, next},
    nodes::Nodes,
    wire::{ClientReply, ClientRequest, NodesReply, NodesRequest},
};

/// A mesh, as its client sees it. A handle: clones share its connections.
///
/// Needs a tokio runtime: one task listens on each connection, and one asks every ten seconds which nodes there are. They
/// end with the last handle.
#[derive(Clone)]
pub struct Mesh {
    shared: Arc<Shared>,
    /// Asks which nodes there are; aborted with the last handle.
    _following: Arc<Mutex<JoinSet<()>>>,
}

struct Shared {
    nodes: Nodes,
    budget: Mutex<RetryBudget>,
    /// A connection was lost or is in doubt: there may be other nodes now.
    lost: Notify,
}

/// One call on its way through the nodes.
struct Call {
    request: ClientRequest,
    deadline: Instant,
}

/// A node that is given a call, and what it is sent.
struct Asking {
    body: Bytes,
    link: Arc<Link>,
    stranger: Arc<Stranger>,
    /// A sign of life was overdue before: if it is lost, then not for this call.
    was_silent: bool,
}

impl Mesh {
    /// Connects to the first node of `context` that answers. Which other nodes there are the mesh itself tells from then
    /// on; those of the context are kept.
    ///
    /// # Errors
    /// `bad-request` for a context without nodes; `untrusted` if its CA is no certificate, or a node is not signed by
    /// it; `unreachable` when no node answers. Nothing was executed.
    pub async fn connect(context: Context) -> Result<Self, Failure> {
        let entry = Entry { pin: CaPin::from_pem(&context.ca)?, key: context.key };
        let shared = Arc::new(Shared {
            nodes: Nodes::new(entry, context.nodes),
            budget: Mutex::new(RetryBudget::new(Instant::now())),
            lost: Notify::new(),
        });
        let none = || Failure::not_executed(ErrorCode::BadRequest, "the context names no node");
        let (link, _) = shared.nodes.reach(&[], Instant::now() + CONNECT_MAX).await.ok_or_else(none)??;
        shared.nodes.answered(&link);
        let mut following = JoinSet::new();
        following.spawn(follow(shared.clone()));
        Ok(Self { shared, _following: Arc::new(Mutex::new(following)) })
    }

    /// The function that `reference` (`[app/]name[@version|:alias]`) names. Asks nobody; the call itself does.
    ///
    /// # Errors
    /// [`ParseError`] when the text is no reference.
    pub fn function(&self, reference: &str) -> Result<Function, ParseError> {
        Ok(Function::new(self.clone(), reference.parse()?))
    }

    /// Ends the connections. Calls under way on other clones end with `unreachable` or `peer-lost`.
    pub async fn close(self) {
        self.shared.nodes.close().await;
    }

    /// Sends a call to one node after another until one has an answer that another would not better.
    pub(crate) async fn send(&self, invocation: Invocation) -> Result<ClientReply, Failure> {
        let deadline = invocation.deadline.min(Instant::now() + DEADLINE_MAX);
        let request = ClientRequest {
            invocation: invocation.id,
            reference: reference(invocation.target)?,
            payload: invocation.payload,
            headers: invocation.headers.to_vec(),
            deadline_ms: 0,
            traceparent: invocation.traceparent.as_deref().map(str::to_owned),
            index_min: invocation.index_min,
            is_idempotent: invocation.is_idempotent,
            was_lost: false,
        };
        self.shared.with_budget(|budget| budget.deposit());
        self.shared.run(&Call { request, deadline }, Vec::new(), Settled::default()).await
    }
}

impl Shared {
    /// Has nodes that are not among `tried` answer the call.
    async fn run(&self, call: &Call, mut tried: Vec<Arc<Link>>, mut settled: Settled) -> Result<ClientReply, Failure> {
        let mut passed_over = Vec::new();
        loop {
            let (link, stranger) = match self.reach(call, &mut tried, &mut passed_over, &mut settled).await {
                Some(Ok(reached)) => reached,
                Some(Err(failure)) => return Err(settled.end(failure)),
                None => return Err(settled.exhausted()),
            };
            let Some(body) = call.encode(settled.has_lost_one())? else { return Err(settled.exhausted()) };
            let asking = Asking { was_silent: stranger.is_silent(), link, stranger, body };
            let (failure, is_word) = match self.ask(call, &asking, &tried, &settled).await {
                Asked::Settled(outcome) => return outcome.map_err(|failure| settled.end_with(failure)),
                Asked::Failed { failure, is_word } => (failure, is_word),
            };
            let is_lost = asking.stranger.is_closed();
            if is_lost {
                self.lost.notify_one();
            }
            let mut next = next(&failure, call.request.is_idempotent, is_word);
            if is_lost_with_it(&failure) && !asking.was_silent && settled.lose() {
                next = Next::GiveUp;
            }
            // A connection may have been stale while its node is well: that node is asked once more.
            let is_stale = is_lost && settled.may_be_stale();
            if !is_stale {
                tried.push(asking.link);
            }
            let pause = Duration::from_millis(failure.retry_after_ms.unwrap_or(0));
            settled.note(failure);
            match next {
                Next::GiveUp => return Err(settled.exhausted()),
                Next::Elsewhere => {}
                Next::Another if !self.nodes.has_others(&tried) => return Err(settled.exhausted()),
                Next::Another | Next::Later => {
                    let is_in_time = Instant::now() + pause < call.deadline;
                    let may_repeat = is_in_time && settled.may_repeat();
                    if !may_repeat || !self.with_budget(|budget| budget.withdraw(Instant::now())) {
                        return Err(settled.exhausted());
                    }
                    sleep(pause).await;
                    if !self.nodes.has_others(&tried) {
                        tried.clear();
                    }
                }
            }
        }
    }

    /// A node that was not tried yet, and is heard if the call was lost with one before: nodes that died together are not
    /// to count as ended by it. None if all were tried.
    ///
    /// One that is not heard is passed over, and its connection replaced: when all fall silent at once it is this client
    /// that was cut off, for a while or for these connections only, and the nodes are well. Whoever is silent on a new
    /// connection, too, was tried.
    async fn reach(
        &self,
        call: &Call,
        tried: &mut Vec<Arc<Link>>,
        passed_over: &mut Vec<Arc<Link>>,
        settled: &mut Settled,
    ) -> Option<Result<(Arc<Link>, Arc<Stranger>), Failure>> {
        loop {
            // A node that is alive answers at the deadline by itself; one that does not answer the dial is given up then.
            let (link, stranger) = match self.nodes.reach(tried, call.deadline).await {
                Some(Err(_)) if self.may_return(passed_over, tried, call.deadline) => {
                    sleep_until(call.deadline.min(Instant::now() + RETURN_LOOK)).await;
                    continue;
                }
                Some(Ok(reached)) => reached,
                other => return other,
            };
            if !settled.has_lost_one() || is_heard(&stranger, call.deadline).await {
                return Some(Ok((link, stranger)));
            }
            // There was no time to hear it: that is nothing against its connection.
            if Instant::now() >= call.deadline {
                return None;
            }
            settled.pass_over(Failure::not_executed(ErrorCode::Unreachable, "a node has fallen silent"));
            self.lost.notify_one();
            link.replace(&stranger);
            match passed_over.iter().any(|passed| Arc::ptr_eq(passed, &link)) {
                true => tried.push(link),
                false => passed_over.push(link),
            }
        }
    }

    /// Whether one of the nodes that were `passed_over` may be reached again by the deadline.
    fn may_return(&self, passed_over: &[Arc<Link>], tried: &[Arc<Link>], deadline: Instant) -> bool {
        let is_left = |link: &Arc<Link>| !tried.iter().any(|tried| Arc::ptr_eq(tried, link));
        Instant::now() < deadline && !self.nodes.is_closed() && passed_over.iter().any(is_left)
    }

    /// Asks one node. While it is silent a call that may run twice is tried elsewhere, too, and the first answer counts.
    async fn ask(
        &self,
        call: &Call,
        Asking { link, stranger, was_silent, body }: &Asking,
        tried: &[Arc<Link>],
        settled: &Settled,
    ) -> Asked {
        let mut answer = pin!(async {
            // A node answers at the deadline by itself, and better than we could: it knows whether the function ran.
            let word = stranger.ask(Service::Client, body.clone(), call.deadline + ANSWER_GRACE).await?;
            Ok(word.and_then(|answer| {
                self.nodes.answered(link);
                decode(&answer)
            }))
        });
        // Should this node be lost, too, no other may have the call.
        let is_last = settled.has_lost_one() && !was_silent;
        if is_last || !call.request.is_idempotent || !self.nodes.has_others(tried) {
            return Asked::of(answer.await);
        }
        tokio::select! {
            biased;
            answer = &mut answer => return Asked::of(answer),
            () = stranger.doubted() => {}
        }
        // Whoever settles the call, a node was lost.
        self.lost.notify_one();
        let mut beyond = tried.to_vec();
        beyond.push(link.clone());
        let own = async {
            let answer = answer.await.and_then(|word| word);
            Ended { answer, is_lost: stranger.is_closed() }
        };
        let settled = Settled::beside(settled.has_lost_one() || !was_silent);
        Asked::Settled(beside(own, self.run_beside(call, beyond, settled)).await)
    }

    /// The same as [`run`](Self::run), of which it is a part: its size must be known.
    fn run_beside<'a>(&'a self, call: &'a Call, tried: Vec<Arc<Link>>, settled: Settled) -> BoxedReply<'a> {
        Box::pin(self.run(call, tried, settled))
    }

    fn with_budget<T>(&self, what: impl FnOnce(&mut RetryBudget) -> T) -> T {
        what(&mut self.budget.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks a node to which there is a connection, the best there is, which nodes there are.
    async fn look_round(&self) {
        let Some(stranger) = self.nodes.open() else { return };
        let asked = async {
            let body = codec::encode(&NodesRequest {})?;
            let answer = stranger.call(Service::Nodes, body, Instant::now() + LOOK_MAX).await?;
            Ok::<NodesReply, Failure>(codec::decode(&answer)?)
        };
        match asked.await {
            Ok(reply) => self.nodes.learn(reply.nodes),
            Err(failure) => tracing::debug!(%failure, "which nodes there are was not to be learnt"),
        }
    }
}

/// What became of one attempt.
enum Asked {
    /// The end of the call: an answer, or all other nodes were tried meanwhile.
    Settled(Result<ClientReply, Failure>),
    Failed {
        failure: Failure,
        /// The node said so. Otherwise it was made here of the node's silence.
        is_word: bool,
    },
}

impl Asked {
    fn of(word: Result<Result<ClientReply, Failure>, Failure>) -> Self {
        match word {
            Ok(Ok(reply)) => Self::Settled(Ok(reply)),
            Ok(Err(failure)) => Self::Failed { failure, is_word: true },
            Err(failure) => Self::Failed { failure, is_word: false },
        }
    }
}

type BoxedReply<'a> = Pin<Box<dyn Future<Output = Result<ClientReply, Failure>> + Send + 'a>>;

/// Learns which nodes there are, now and then and when a connection is lost, until it is aborted.
async fn follow(shared: Arc<Shared>) {
    loop {
        shared.look_round().await;
        // However many are lost at once, they are asked about once.
        sleep(LOOK_LEAST).await;
        let _ = timeout(LOOK_PERIOD, shared.lost.notified()).await;
    }
}

impl Call {
    /// The request with the time that is left; none if none is. It says whether it `was_lost` with a node before.
    fn encode(&self, was_lost: bool) -> Result<Option<Bytes>, Failure> {
        let remaining = self.deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return Ok(None);
        }
        let deadline_ms = u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX).max(1);
        Ok(Some(codec::encode(&ClientRequest { deadline_ms, was_lost, ..self.request.clone() })?))
    }
}

#[async_trait]
impl Invoke for Mesh {
    /// Calls a function by its name. Versions by id are between nodes.
    async fn invoke(&self, invocation: Invocation) -> Result<Reply, Failure> {
        self.send(invocation).await.map(|answer| answer.reply)
    }
}

/// Whether a node gives a sign of life now, and in time.
async fn is_heard(stranger: &Stranger, deadline: Instant) -> bool {
    timeout_at(deadline, stranger.is_heard()).await.unwrap_or(false)
}

fn reference(target: InvocationTarget) -> Result<FunctionRef, Failure> {
    match target {
        InvocationTarget::Reference(reference) => Ok(reference),
        InvocationTarget::Version(version) => {
            let message = format!("a client calls functions by name, not version {version} by its id");
            Err(Failure::not_executed(ErrorCode::BadRequest, message))
        }
    }
}

fn decode(answer: &[u8]) -> Result<ClientReply, Failure> {
    let unreadable = |error: codec::CodecError| Failure::executed(ErrorCode::Malformed, format!("the answer: {error}"));
    codec::decode(answer).map_err(unreadable)
}

/// Longest deadline of a call: nodes take none that is longer.
pub(crate) const DEADLINE_MAX: Duration = Duration::from_millis(Limits::DEADLINE_MS_MAX);

/// How long [`Mesh::connect`] waits: for one dial that nobody answers, begun last.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// How often to look whether a node that was passed over can be reached again. Its dials are further apart.
const RETURN_LOOK: Duration = Duration::from_millis(100);

/// What an answer that was sent at the deadline may take on its way.
const ANSWER_GRACE: Duration = Duration::from_millis(500);

/// How often to ask which nodes there are, how often at most when connections are lost, and how long an answer may take.
const LOOK_PERIOD: Duration = Duration::from_secs(10);
const LOOK_LEAST: Duration = Duration::from_millis(500);
const LOOK_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;

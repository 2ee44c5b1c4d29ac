//! A function to call, with how to call it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use skein_proto::{ErrorCode, Failure, FunctionRef, Invocation, InvocationId, Start, Usage};
use tokio::time::Instant;

use crate::{Mesh, mesh::DEADLINE_MAX};

/// A function of a mesh, and the settings of calls of it. Cheap to clone and to keep.
#[derive(Clone)]
pub struct Function {
    mesh: Mesh,
    reference: FunctionRef,
    deadline: Duration,
    headers: Vec<(String, String)>,
    traceparent: Option<Arc<str>>,
    is_idempotent: bool,
}

/// What a call returned, and how it was run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reply {
    /// The result.
    pub payload: Bytes,
    /// The call.
    pub invocation: InvocationId,
    /// The number of the version that ran.
    pub version: u64,
    /// The name of the node where it ran, or its id if the name is not known.
    pub node: String,
    /// What it found there.
    pub start: Start,
    /// What it used.
    pub usage: Usage,
}

impl Function {
    pub(crate) fn new(mesh: Mesh, reference: FunctionRef) -> Self {
        Self { mesh, reference, deadline: DEADLINE, headers: Vec::new(), traceparent: None, is_idempotent: false }
    }

    /// How long a call may take in all, attempts on several nodes included. Default 10 s, at most 15 minutes; the
    /// function's own limit may be lower.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Says that running twice does no harm, so that a call whose fate is unknown is repeated on another node.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.is_idempotent = true;
        self
    }

    /// Adds a header, which the function sees as environment variable: `X-Foo` as `HTTP_X_FOO`.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The W3C `traceparent` of the caller's span, with which the call goes on.
    #[must_use]
    pub fn traceparent(mut self, traceparent: impl Into<Arc<str>>) -> Self {
        self.traceparent = Some(traceparent.into());
        self
    }

    /// What is called.
    pub fn reference(&self) -> &FunctionRef {
        &self.reference
    }

    /// Calls the function with these bytes. Dropping the future takes the call back: a guest that runs is stopped.
    ///
    /// # Errors
    /// A [`Failure`], whose `progress` says whether the function may have run.
    pub async fn invoke(&self, payload: impl Into<Bytes>) -> Result<Reply, Failure> {
        let deadline = Instant::now() + self.deadline.min(DEADLINE_MAX);
        let mut invocation = Invocation::new(self.reference.clone(), payload.into(), deadline);
        invocation.headers = self.headers.as_slice().into();
        invocation.traceparent.clone_from(&self.traceparent);
        invocation.is_idempotent = self.is_idempotent;
        let id = invocation.id;
        let answer = self.mesh.send(invocation).await?;
        let reply = answer.reply;
        Ok(Reply {
            payload: reply.payload,
            invocation: id,
            version: reply.version.number,
            node: if answer.node_name.is_empty() { reply.node.to_string() } else { answer.node_name },
            start: reply.start,
            usage: reply.usage,
        })
    }

    /// Calls the function with a value as JSON, and reads its result as JSON.
    ///
    /// # Errors
    /// As [`Function::invoke`]; and `bad-request` (not executed) for a value that JSON cannot hold, `malformed`
    /// (executed) for a result that is not JSON of that type.
    pub async fn call<In, Out>(&self, input: &In) -> Result<Out, Failure>
    where
        In: Serialize + ?Sized + Sync,
        Out: DeserializeOwned,
    {
        let refuse = |error| Failure::not_executed(ErrorCode::BadRequest, format!("the input as JSON: {error}"));
        let payload = serde_json::to_vec(input).map_err(refuse)?;
        self.invoke(payload).await?.json()
    }
}

impl Reply {
    /// The result, read as JSON.
    ///
    /// # Errors
    /// `malformed` (executed) when it is not JSON of this type.
    pub fn json<Out: DeserializeOwned>(&self) -> Result<Out, Failure> {
        let refuse = |error| Failure::executed(ErrorCode::Malformed, format!("the result as JSON: {error}"));
        serde_json::from_slice(&self.payload).map_err(refuse)
    }
}

const DEADLINE: Duration = Duration::from_secs(10);

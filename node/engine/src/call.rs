//! One call of a program: what goes in, what comes out.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use skein_proto::Limits;
use tokio::time::Instant;

use crate::{Preopen, Room, Services, StopHandle};

/// What one call of a [`Program`](crate::Program) is given.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// The arguments, the program's name first.
    pub args: &'a [String],
    /// The environment, as names and values.
    pub env: &'a [(String, String)],
    /// The input; what a WASI module reads on stdin.
    pub payload: Bytes,
    /// What the call may use. `deadline_ms` counts from the start of the run.
    pub limits: Limits,
    /// When the caller stops waiting; the guest is stopped then, or after `limits.deadline_ms`, whichever comes first.
    pub deadline: Instant,
    /// Stops the guest from another thread.
    pub stop: StopHandle,
    /// Answers what the guest asks of the world outside; `None` if it was granted nothing.
    pub services: Option<Arc<dyn Services>>,
    /// Gives the guest a private directory, `/`, of at most `limits.scratch_bytes`; it is gone with the call.
    pub scratch: bool,
    /// Directories of this machine that the guest may use. None on a mesh.
    pub preopens: &'a [Preopen],
    /// What was set aside for the call by [`Program::room`](crate::Program::room); `None` has the run do that itself.
    pub room: Option<&'a Room>,
}

impl Call<'_> {
    /// A call with no arguments, environment or input.
    pub fn new(limits: Limits, deadline: Instant, stop: StopHandle) -> Self {
        Self {
            args: &[],
            env: &[],
            payload: Bytes::new(),
            limits,
            deadline,
            stop,
            services: None,
            scratch: false,
            preopens: &[],
            room: None,
        }
    }
}

/// What a run left behind.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Output {
    /// The result; what a WASI module wrote to stdout.
    pub payload: Bytes,
    /// What it logged, to stderr or otherwise, cut at `limits.log_bytes`.
    pub log: Bytes,
    /// What it logged in all.
    pub log_bytes_total: u64,
    /// Getting an instance, its initialisation included.
    pub instantiate: Duration,
    /// In the guest.
    pub run: Duration,
    /// Making its instance ready for the call after this one, if that was done.
    pub reset: Duration,
    /// The most linear memory it had.
    pub memory_bytes: u64,
    /// True if its instance had served before, and what earlier calls left in it was there.
    pub is_reused: bool,
    /// True if it waited for anything: for time to pass, or for an answer.
    pub has_waited: bool,
}

impl Output {
    /// The end of the log as text: at most `bytes_max` bytes of it, from the start of a character.
    pub fn log_tail(&self, bytes_max: usize) -> String {
        let tail = &self.log[self.log.len().saturating_sub(bytes_max)..];
        // A cut character leaves at most three continuation bytes at the front.
        let skip = tail.iter().take(3).take_while(|byte| **byte & 0xC0 == 0x80).count();
        String::from_utf8_lossy(&tail[skip..]).into_owned()
    }
}

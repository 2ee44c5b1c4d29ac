//! How a failure looks to whoever speaks HTTP: problem details (RFC 9457) and the page of a code.

use serde::{Deserialize, Serialize};
use skein_proto::{ErrorCode, Failure, InvocationId, Progress};

/// A failure as `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:skein:error:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the code means.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// The stable code.
    pub code: ErrorCode,
    /// How far the operation got; decides who may repeat it.
    pub progress: Progress,
    /// What to do next.
    #[serde(default)]
    pub advice: String,
    /// When a retry makes sense, in milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The exit code of a function that ended with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The end of what the function wrote to its log, if it ran.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub log_tail: String,
    /// The invocation, if it was a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<InvocationId>,
}

impl Problem {
    /// The media type of problem details.
    pub const MEDIA_TYPE: &'static str = "application/problem+json";

    /// The problem that stands for `failure`.
    pub fn of(failure: Failure) -> Self {
        let code = failure.code;
        Self {
            kind: format!("urn:skein:error:{code}"),
            title: code.meaning().trim_end_matches('.').to_owned(),
            status: code.http_status(),
            detail: failure.message,
            code,
            progress: failure.progress,
            advice: code.advice().to_owned(),
            retry_after_ms: failure.retry_after_ms,
            exit_code: failure.exit_code,
            log_tail: failure.log_tail,
            invocation: None,
        }
    }
}

impl From<Problem> for Failure {
    /// What the server's failure was, for a client that got the problem.
    fn from(problem: Problem) -> Self {
        Failure {
            code: problem.code,
            message: problem.detail,
            progress: problem.progress,
            retry_after_ms: problem.retry_after_ms,
            exit_code: problem.exit_code,
            index: None,
            log_tail: problem.log_tail,
            lacks_memory: false,
            moved_to: None,
        }
    }
}

/// What an error code means and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorPage {
    /// The stable code.
    pub code: ErrorCode,
    /// What it means.
    pub meaning: String,
    /// What to do next.
    pub advice: String,
    /// The HTTP status that answers it.
    pub status: u16,
    /// The exit code of a command that ends with it.
    pub exit_code: u8,
}

impl From<ErrorCode> for ErrorPage {
    fn from(code: ErrorCode) -> Self {
        Self {
            code,
            meaning: code.meaning().to_owned(),
            advice: code.advice().to_owned(),
            status: code.http_status(),
            exit_code: code.exit_code(),
        }
    }
}

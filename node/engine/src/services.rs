//! What a guest may ask of the world outside its sandbox: the seam to whoever runs it.

use std::{fmt, future::Future, pin::Pin};

use bytes::Bytes;
use skein_proto::Failure;

/// Answers the outward requests of one call. The runtime gives one to every call whose version has outward grants.
///
/// The engine has checked the version's grants, its depth and its limits before it asks. It waits on the guest's own
/// thread, and drops the future when the guest is stopped, which must take the request back. A guest need not wait for
/// all that it has asked for: then nobody polls the future until the guest waits again, or ever. So what is behind it
/// must hold nothing that others need until it is polled.
pub trait Services: Send + Sync {
    /// Calls another function.
    fn invoke(&self, request: InvokeRequest) -> Asked<Bytes>;

    /// Sends an HTTP request and returns its whole answer.
    fn http(&self, request: HttpRequest) -> Asked<HttpResponse>;

    /// The guest waits from now on, and needs no core: let somebody else run meanwhile. Followed by
    /// [`Services::resumed`], always.
    fn waits(&self) {}

    /// The guest goes on.
    fn resumed(&self) {}
}

/// An answer that is not there yet.
pub type Asked<T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send>>;

/// A guest's call of another function.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct InvokeRequest {
    /// What to call, as `[app/]name[@version|:alias]`.
    pub reference: String,
    /// Its payload.
    pub payload: Bytes,
    /// Names and values sent along.
    pub headers: Vec<(String, String)>,
}

impl InvokeRequest {
    /// A call without headers.
    pub fn new(reference: impl Into<String>, payload: Bytes) -> Self {
        Self { reference: reference.into(), payload, headers: Vec::new() }
    }
}

/// A guest's HTTP request.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HttpRequest {
    /// `GET`, `POST`, …
    pub method: String,
    /// An absolute `http` or `https` URL, to a granted origin.
    pub url: String,
    /// Names and values, in order.
    pub headers: Vec<(String, String)>,
    /// What is sent.
    pub body: Bytes,
    /// The longest answer that is of use, in bytes; a longer one is a failure.
    pub response_bytes_max: u64,
}

impl HttpRequest {
    /// A request without headers.
    pub fn new(method: impl Into<String>, url: impl Into<String>, body: Bytes, response_bytes_max: u64) -> Self {
        Self { method: method.into(), url: url.into(), headers: Vec::new(), body, response_bytes_max }
    }
}

/// The answer to a [`HttpRequest`].
#[derive(Debug, Clone)]
pub struct HttpResponse {
    /// The status, 100 to 999.
    pub status: u16,
    /// Names, in lower case, and values, in order.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Bytes,
}

impl fmt::Debug for dyn Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Services")
    }
}

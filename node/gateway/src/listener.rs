//! The accept loop: a bounded number of connections, each HTTP/1.1 or cleartext HTTP/2, and an end that waits.
//!
//! Nothing a client does or omits keeps a connection for ever: the first bytes, each head and each piece of an answer
//! have a time limit, and HTTP/2 connections are pinged.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, response::Response};
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
};
use metrics::gauge;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::{JoinError, JoinSet},
    time::{Instant, sleep, timeout, timeout_at},
};
use tower::Service as _;
use tracing::{Instrument as _, debug, debug_span, error, warn};

use crate::{
    GatewayConfig, GatewayError,
    call::Calls,
    metrics::{CONNECTIONS, Meters, Route},
    stall::StallGuard,
};

/// Most bytes of a request's head. Most fields: hyper's 100, since another number costs an allocation a request.
pub(crate) const HEAD_BYTES_MAX: usize = 64 << 10;
/// Most requests at a time on one HTTP/2 connection: each costs memory before it is admitted.
const STREAMS_MAX: u32 = 256;
/// How often an HTTP/2 connection is asked whether it is still there, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Pause after `accept` failed, which is mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Pause between looks at a client that has sent part of the HTTP/2 preface.
const PREFACE_PAUSE: Duration = Duration::from_millis(5);
/// What an HTTP/2 client sends first (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What answers the requests of a listener.
#[derive(Clone)]
pub(crate) struct Front {
    /// Takes the calls, without a router in between: it has but one route, and would look for it with every call.
    pub(crate) calls: Option<Arc<Calls>>,
    /// Takes everything else.
    pub(crate) router: Router,
}

/// One address being listened at.
pub(crate) struct Listener {
    name: &'static str,
    socket: TcpListener,
    front: Front,
    meters: Meters,
    connections_max: usize,
    head_timeout: Duration,
    write_timeout: Duration,
}

/// When to end: none while serving, then the time by which running requests must be done.
pub(crate) type Stop = watch::Receiver<Option<Instant>>;

impl Listener {
    /// Listens at `addr`. Nothing is accepted before [`Listener::run`].
    pub(crate) async fn bind(
        name: &'static str,
        addr: SocketAddr,
        front: Front,
        config: &GatewayConfig,
    ) -> Result<(Self, SocketAddr), GatewayError> {
        let refuse = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => GatewayError::AddressInUse { addr },
            _ => GatewayError::Bind { addr, error },
        };
        let socket = TcpListener::bind(addr).await.map_err(refuse)?;
        let local = socket.local_addr().map_err(refuse)?;
        let listener = Self {
            name,
            socket,
            front,
            meters: Meters::new(),
            connections_max: config.connections_max.clamp(1, Semaphore::MAX_PERMITS),
            head_timeout: config.head_timeout,
            write_timeout: config.write_timeout,
        };
        Ok((listener, local))
    }

    /// Serves until `stop` says otherwise, and returns when the last connection is closed.
    pub(crate) async fn run(self, mut stop: Stop) {
        let places = Arc::new(Semaphore::new(self.connections_max));
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        loop {
            let (stream, place) = tokio::select! {
                biased;
                _ = stop.changed() => break,
                accepted = accept(&self.socket, &places) => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        warn!(listener = self.name, %error, "connection could not be accepted");
                        sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
            };
            while let Some(ended) = connections.try_join_next() {
                report(self.name, ended);
            }
            let connection = Connection {
                name: self.name,
                front: self.front.clone(),
                meters: self.meters.clone(),
                head_timeout: self.head_timeout,
                write_timeout: self.write_timeout,
                watcher: graceful.watcher(),
                stop: stop.clone(),
                _place: place,
            };
            connections.spawn(connection.serve(stream));
        }
        drop(self.socket);
        let deadline = stop.borrow().unwrap_or_else(Instant::now);
        if timeout_at(deadline, graceful.shutdown()).await.is_err() {
            warn!(listener = self.name, left = connections.len(), "requests were cut off at the end of the deadline");
        }
        connections.shutdown().await;
    }
}

/// A handler that panicked took its connection with it; the others go on.
fn report(listener: &str, ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        error!(listener, %error, "a request ended in a panic");
    }
}

/// A place first, then a connection: while there is none, clients wait in the kernel's queue.
async fn accept(socket: &TcpListener, places: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = socket.accept().await?;
    Ok((stream, place))
}

/// One connection and what it takes to serve it.
struct Connection {
    name: &'static str,
    front: Front,
    meters: Meters,
    head_timeout: Duration,
    write_timeout: Duration,
    watcher: Watcher,
    stop: Stop,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn serve(mut self, stream: TcpStream) {
        gauge!(CONNECTIONS, "listener" => self.name).increment(1);
        let _count = OpenCount(self.name);
        // Answers are written whole; waiting for more to send only adds delay.
        let _ = stream.set_nodelay(true);
        let is_http2 = tokio::select! {
            biased;
            _ = self.stop.changed() => return,
            spoken = timeout(self.head_timeout, speaks_http2(&stream)) => match spoken {
                Ok(Ok(is_http2)) => is_http2,
                Ok(Err(_)) | Err(_) => return,
            },
        };
        let answering = Arc::new((self.front, self.meters));
        let service = service_fn(move |request| answer(answering.clone(), request));
        let builder = builder(self.head_timeout);
        let builder = if is_http2 { builder.http2_only() } else { builder.http1_only() };
        let connection =
            builder.serve_connection(TokioIo::new(StallGuard::new(stream, self.write_timeout)), service).into_owned();
        if let Err(error) = self.watcher.watch(connection).await {
            debug!(listener = self.name, %error, "connection ended early");
        }
    }
}

struct OpenCount(&'static str);

impl Drop for OpenCount {
    fn drop(&mut self) {
        gauge!(CONNECTIONS, "listener" => self.0).decrement(1);
    }
}

/// Whether the client begins with HTTP/2's preface. Reads nothing away.
async fn speaks_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut seen = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut seen).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if seen[..count] != PREFACE[..count] {
            return Ok(false);
        }
        if count == PREFACE.len() {
            return Ok(true);
        }
        sleep(PREFACE_PAUSE).await;
    }
}

fn builder(head_timeout: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(head_timeout).max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX));
    builder
}

/// Answers one request, measured and traced. Dropped by hyper when the client goes away.
async fn answer(answering: Arc<(Front, Meters)>, request: Request<Incoming>) -> Result<Response, Infallible> {
    let (front, meters) = &*answering;
    let path = request.uri().path();
    let route = Route::of(path);
    let measured = meters.begin(route);
    let span = debug_span!("request", method = %request.method(), path);
    let response = match &front.calls {
        Some(calls) if route == Route::Call && path != "/fn/" => {
            calls.answer(request.map(Body::new)).instrument(span.clone()).await
        }
        _ => front.router.clone().call(request).instrument(span.clone()).await?,
    };
    span.in_scope(|| debug!(status = response.status().as_u16(), "answered"));
    measured.end(response.status());
    Ok(response)
}

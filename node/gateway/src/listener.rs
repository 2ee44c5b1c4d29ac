//! The accept loop: a bounded number of connections, each HTTP/1.1 or cleartext HTTP/2, and an end that waits.
//!
//! Nothing a client does or omits keeps a connection for ever: the first bytes, each head and each piece of an answer
//! have a time limit, and HTTP/2 connections are pinged. Who leaves for whom when there are too many, `places` says.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, response::Response};
use futures_util::FutureExt as _;
use http::{HeaderValue, Request, Version, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use metrics::gauge;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinError, JoinSet},
    time::{Instant, sleep, timeout, timeout_at},
};
use tower::Service as _;
use tracing::{Instrument as _, debug, debug_span, error, warn};

use crate::{
    GatewayConfig, GatewayError,
    call::Calls,
    metrics::{CONNECTIONS, Meters, Route},
    outbound::Outbound,
    places::{Here, Place, Places, Room},
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
/// How long, once a listener is to end, connections are still taken that the kernel has accepted for it, and how long a
/// connection has that has not said anything yet. Closing them would lose requests that are on their way.
const LAST_ACCEPTS: Duration = Duration::from_millis(20);
const FIRST_BYTES: Duration = Duration::from_millis(250);
/// How long a connection that was idle for too long may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
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
    answering: Arc<Answering>,
    places: Arc<Places>,
    head_timeout: Duration,
    write_timeout: Duration,
}

/// When to end: none while serving, then the time by which running requests must be done.
pub(crate) type Stop = watch::Receiver<Option<Instant>>;

/// Whether the node is about to leave: it serves as ever, and sends away whoever asks or would come again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leaving(Arc<AtomicBool>);

impl Leaving {
    pub(crate) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Listener {
    /// Listens at `addr`. Nothing is accepted before [`Listener::run`].
    pub(crate) async fn bind(
        name: &'static str,
        addr: SocketAddr,
        front: Front,
        leaving: Leaving,
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
            answering: Arc::new(Answering { front, meters: Meters::new(), leaving }),
            places: Places::new(name, room(config)),
            head_timeout: config.head_timeout,
            write_timeout: config.write_timeout,
        };
        Ok((listener, local))
    }

    /// Serves until `stop` says otherwise, and returns when the last connection is closed.
    pub(crate) async fn run(self, mut stop: Stop) {
        let (mut connections, mut waiting) = (JoinSet::new(), None);
        // Ends with the connections, of which it is none.
        let mut watch = JoinSet::new();
        watch.spawn(self.places.clone().watch());
        loop {
            let (stream, place) = tokio::select! {
                biased;
                _ = stop.changed() => break,
                accepted = accept(&self.socket, &self.places, &mut waiting) => match accepted {
                    Ok(Some(accepted)) => accepted,
                    Ok(None) => continue,
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
            connections.spawn(self.connection(place, &stop).serve(stream));
        }
        // Who has been let in by the kernel has sent a request, or is about to.
        let until = Instant::now() + LAST_ACCEPTS;
        while let Ok(Ok(accepted)) = timeout_at(until, accept(&self.socket, &self.places, &mut waiting)).await {
            if let Some((stream, place)) = accepted {
                connections.spawn(self.connection(place, &stop).serve(stream));
            }
        }
        let name = self.name;
        drop(self);
        let deadline = stop.borrow().unwrap_or_else(Instant::now);
        let ended = async {
            while let Some(ended) = connections.join_next().await {
                report(name, ended);
            }
        };
        if timeout_at(deadline, ended).await.is_err() {
            warn!(listener = name, left = connections.len(), "requests were cut off at the end of the deadline");
        }
        connections.shutdown().await;
    }

    fn connection(&self, place: Place, stop: &Stop) -> Connection {
        Connection {
            name: self.name,
            answering: self.answering.clone(),
            head_timeout: self.head_timeout,
            write_timeout: self.write_timeout,
            stop: stop.clone(),
            place,
        }
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

/// A connection and a place for it; while there is none, further clients wait in the kernel's queue. None if its address
/// has too many: it is closed. Whoever waits for a place is in `waiting`: nobody is lost when this is dropped.
async fn accept(
    socket: &TcpListener,
    places: &Arc<Places>,
    waiting: &mut Option<(TcpStream, IpAddr)>,
) -> io::Result<Option<(TcpStream, Place)>> {
    let from = match waiting {
        Some((_, from)) => *from,
        None => {
            let (stream, from) = socket.accept().await?;
            *waiting = Some((stream, from.ip()));
            from.ip()
        }
    };
    let place = places.take(from).await;
    Ok(waiting.take().and_then(|(stream, _)| Some((stream, place?))))
}

fn room(config: &GatewayConfig) -> Room {
    Room {
        connections: config.connections_max.max(1),
        of_one_address: config.connections_per_address_max.max(1),
        idle: config.head_timeout,
        patience: config.write_timeout,
        unread_bytes: config.answer_bytes_max,
    }
}

/// What answers the requests of all connections.
struct Answering {
    front: Front,
    meters: Meters,
    leaving: Leaving,
}

/// One connection and what it takes to serve it.
struct Connection {
    name: &'static str,
    answering: Arc<Answering>,
    head_timeout: Duration,
    write_timeout: Duration,
    stop: Stop,
    place: Place,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        gauge!(CONNECTIONS, "listener" => self.name).increment(1);
        let _count = OpenCount(self.name);
        // Answers are written whole; waiting for more to send only adds delay.
        let _ = stream.set_nodelay(true);
        let (mut stop, seat) = (self.stop, self.place.seat.clone());
        let is_http2 = tokio::select! {
            biased;
            () = seat.end.cancelled() => return,
            spoken = timeout(self.head_timeout, speaks_http2(&stream)) => match spoken {
                Ok(Ok(is_http2)) => is_http2,
                Ok(Err(_)) | Err(_) => return,
            },
            () = silent_at_the_end(stop.clone()) => return,
        };
        let here = self.place.here();
        let service = service_fn(move |request| answer(self.answering.clone(), here.clone(), request));
        let builder = builder(self.head_timeout);
        let builder = if is_http2 { builder.http2_only() } else { builder.http1_only() };
        let stream = TokioIo::new(StallGuard::new(stream, self.write_timeout, seat.clone()));
        let mut connection = pin!(builder.serve_connection(stream, service));
        let ended = tokio::select! {
            // A request that has arrived is taken before the connection is told to end.
            biased;
            ended = connection.as_mut() => ended,
            () = told_to_end(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = seat.end.cancelled() => return,
                }
            }
            () = seat.end_softly.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = seat.end.cancelled() => return,
                    () = sleep(GOODBYE) => return,
                }
            }
            // Others need the place, or the memory: what can be said without waiting is said.
            () = seat.end.cancelled() => {
                connection.as_mut().graceful_shutdown();
                match connection.as_mut().now_or_never() {
                    Some(ended) => ended,
                    None => return,
                }
            }
        };
        if let Err(error) = ended {
            debug!(listener = self.name, %error, "connection ended early");
        }
    }
}

/// Ends when the listener was told to, or is dropped.
async fn told_to_end(stop: &mut Stop) {
    drop(stop.wait_for(Option::is_some).await);
}

/// Ends a moment after the listener was told to.
async fn silent_at_the_end(mut stop: Stop) {
    told_to_end(&mut stop).await;
    sleep(FIRST_BYTES).await;
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
async fn answer(answering: Arc<Answering>, here: Here, mut request: Request<Incoming>) -> Result<Response, Infallible> {
    let Answering { front, meters, leaving } = &*answering;
    let busy = here.begin();
    request.extensions_mut().insert(here);
    let is_http1 = request.version() < Version::HTTP_2;
    let path = request.uri().path();
    let route = Route::of(path);
    let measured = meters.begin(route);
    let span = debug_span!("request", method = %request.method(), path);
    let mut response = match &front.calls {
        Some(calls) if route == Route::Call && path != "/fn/" => {
            calls.answer(request.map(Body::new)).instrument(span.clone()).await
        }
        _ => front.router.clone().call(request).instrument(span.clone()).await?,
    };
    if is_http1 && leaving.is_leaving() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    span.in_scope(|| debug!(status = response.status().as_u16(), "answered"));
    measured.end(response.status());
    Ok(response.map(|body| Body::new(Outbound::new(body, busy))))
}

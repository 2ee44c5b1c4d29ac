//! The client against servers of this machine, which answer what a test says.

use std::{collections::HashMap, net::SocketAddr};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;

use super::*;

/// Answers each connection's first request with what `reply` says to its head, and tells the head.
struct Server {
    address: SocketAddr,
    heads: mpsc::UnboundedReceiver<String>,
}

impl Server {
    async fn start(reply: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self::with(None, reply).await
    }

    async fn with(tls: Option<TlsAcceptor>, reply: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, (tell, heads)) = (listener.local_addr().unwrap(), mpsc::unbounded_channel());
        let reply = Arc::new(reply);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, reply, tell) = (tls.clone(), reply.clone(), tell.clone());
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                answer(stream, &*reply, &tell).await;
                            }
                        }
                        None => answer(stream, &*reply, &tell).await,
                    }
                });
            }
        });
        Self { address, heads }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    reply: &(dyn Fn(&str) -> String + Send + Sync),
    tell: &mpsc::UnboundedSender<String>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let text = reply(&head);
    let _ = tell.send(head);
    if text.is_empty() {
        // Neither an answer nor an end: until the client gives up.
        let _ = stream.read_u8().await;
        return;
    }
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nx-one: 1\r\nx-one: 2\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn redirect(status: u16, to: &str) -> String {
    format!("HTTP/1.1 {status} Go\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

fn egress() -> HttpEgress {
    HttpEgress::new(EgressConfig::default()).unwrap()
}

fn granted(entries: &[&str]) -> Grants {
    Grants { http: entries.iter().map(|entry| (*entry).to_owned()).collect(), ..Grants::default() }
}

fn of(server: &Server) -> Grants {
    granted(&[&server.url("")])
}

async fn get(egress: &HttpEgress, grants: &Grants, url: &str) -> Result<HttpResponse, Failure> {
    get_as("shop", egress, grants, url).await
}

async fn get_as(app: &str, egress: &HttpEgress, grants: &Grants, url: &str) -> Result<HttpResponse, Failure> {
    let request = HttpRequest::new("GET", url, Default::default(), 1 << 10);
    egress.send(request, &app.parse().unwrap(), grants, Instant::now() + Duration::from_secs(20)).await
}

fn check(answer: Result<HttpResponse, Failure>, code: ErrorCode, progress: Progress, expected: &str) {
    let failure = answer.unwrap_err();
    assert_eq!((failure.code, failure.progress), (code, progress), "{failure}");
    assert!(failure.message.contains(expected), "{failure}");
}

#[tokio::test]
async fn a_granted_request_is_answered_in_full() {
    let mut server = Server::start(|_| ok("hello")).await;
    let mut request = HttpRequest::new("PUT", server.url("/a?b=c"), "sent".into(), 5);
    request.headers = vec![("X-Two".into(), "2".into()), ("Host".into(), "evil.example".into())];
    let answer = egress()
        .send(request, &"shop".parse().unwrap(), &of(&server), Instant::now() + Duration::from_secs(20))
        .await
        .unwrap();
    assert_eq!((answer.status, answer.body.as_ref()), (200, &b"hello"[..]));
    let ones: Vec<_> =
        answer.headers.iter().filter(|(name, _)| name == "x-one").map(|(_, value)| value.as_str()).collect();
    assert_eq!(ones, ["1", "2"]);
    let head = server.heads.recv().await.unwrap();
    assert!(head.starts_with("PUT /a?b=c HTTP/1.1\r\n") && head.contains("x-two: 2\r\n"), "{head}");
    assert!(head.contains(&format!("host: {}\r\n", server.address)) && head.contains("user-agent: skein/"), "{head}");
}

#[tokio::test]
async fn what_is_not_granted_is_not_sent() {
    let mut server = Server::start(|_| ok("")).await;
    for grants in [granted(&[]), granted(&["http://127.0.0.1"]), granted(&["https://*.example.com"])] {
        let answer = get(&egress(), &grants, &server.url("/")).await;
        check(answer, ErrorCode::NotGranted, Progress::NotExecuted, &server.url(""));
    }
    assert!(server.heads.try_recv().is_err());
}

#[tokio::test]
async fn a_redirect_is_followed_as_far_as_the_grants_go() {
    let mut other = Server::start(|_| ok("elsewhere")).await;
    let there = other.url("/x");
    let server = Server::start(move |head| match head.split(' ').nth(1) {
        Some("/away") => redirect(302, &there),
        Some("/round") => redirect(307, "/round"),
        Some("/bad") => redirect(301, "http://[/"),
        _ => redirect(301, "/away"),
    })
    .await;
    let both = granted(&[&server.url(""), &other.url("")]);
    assert_eq!(get(&egress(), &both, &server.url("/")).await.unwrap().body.as_ref(), b"elsewhere");
    other.heads.recv().await.unwrap();
    let answer = get(&egress(), &of(&server), &server.url("/")).await;
    check(answer, ErrorCode::NotGranted, Progress::Executed, "redirects elsewhere: requests to");
    assert!(other.heads.try_recv().is_err(), "the other server was not asked");
    let answer = get(&egress(), &both, &server.url("/round")).await;
    check(answer, ErrorCode::LimitExceeded, Progress::Executed, "more than 10 times");
    check(get(&egress(), &both, &server.url("/bad")).await, ErrorCode::Malformed, Progress::Executed, "no URL");
}

#[tokio::test]
async fn private_addresses_are_reached_only_by_a_grant_that_names_the_host() {
    let mut server = Server::start(|_| ok("inside")).await;
    let port = server.address.port();
    let lookup = Lookup::Fixed(HashMap::from([
        ("api.example.com".to_owned(), vec![server.address]),
        ("mixed.example.com".to_owned(), vec!["[::1]:0".parse().unwrap(), "10.0.0.1:0".parse().unwrap()]),
    ]));
    let egress = HttpEgress::with(EgressConfig::default(), lookup.clone()).unwrap();
    let below = granted(&[&format!("http://*.example.com:{port}")]);
    for name in ["api", "mixed"] {
        let answer = get(&egress, &below, &format!("http://{name}.example.com:{port}/")).await;
        check(answer, ErrorCode::NotGranted, Progress::NotExecuted, "a private address");
    }
    assert!(server.heads.try_recv().is_err());
    let named = granted(&[&format!("http://api.example.com:{port}")]);
    let url = format!("http://api.example.com:{port}/");
    assert_eq!(get(&egress, &named, &url).await.unwrap().body.as_ref(), b"inside");
    let config = EgressConfig { may_reach_private: false, ..EgressConfig::default() };
    let strict = HttpEgress::with(config, lookup).unwrap();
    check(get(&strict, &named, &url).await, ErrorCode::NotGranted, Progress::NotExecuted, "the operator allows");
    let literal = get(&strict, &of(&server), &server.url("/")).await;
    check(literal, ErrorCode::NotGranted, Progress::NotExecuted, "the operator allows");
}

#[tokio::test]
async fn an_answer_over_its_limit_is_refused_with_and_without_a_length() {
    let server = Server::start(|head| match head.starts_with("GET /told") {
        true => ok(&"x".repeat(1_025)),
        false => format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}", "x".repeat(1_025)),
    })
    .await;
    for path in ["/told", "/untold"] {
        let answer = get(&egress(), &of(&server), &server.url(path)).await;
        check(answer, ErrorCode::TooLarge, Progress::Executed, "more than 1024 bytes");
    }
    let config = EgressConfig { answers_bytes_max: 1 << 10, ..EgressConfig::default() };
    let small = HttpEgress::new(config).unwrap();
    let request = HttpRequest::new("GET", server.url("/untold"), Default::default(), 1 << 20);
    let answer =
        small.send(request, &"shop".parse().unwrap(), &of(&server), Instant::now() + Duration::from_secs(20)).await;
    check(answer, ErrorCode::Overloaded, Progress::Executed, "all the room it may have");
}

#[tokio::test]
async fn an_answer_sent_byte_by_byte_takes_no_more_room_than_its_bytes() {
    // Each byte in a chunk, and so in a frame, of its own.
    let chunks = "1\r\nx\r\n".repeat(1_000);
    let server = Server::start(move |_| {
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n{chunks}0\r\n\r\n")
    })
    .await;
    let egress = HttpEgress::new(EgressConfig { answers_bytes_max: 4 << 10, ..EgressConfig::default() }).unwrap();
    let answer = get(&egress, &of(&server), &server.url("/")).await.unwrap();
    assert_eq!(answer.body.len(), 1_000);
    assert!(egress.shared.room.left() >= (4 << 10) - 1_100, "{} are left", egress.shared.room.left());
    drop(answer);
    assert_eq!(egress.shared.room.left(), 4 << 10, "it is held until it is taken");
}

#[tokio::test]
async fn what_one_app_receives_leaves_room_for_another() {
    let server = Server::start(|_| ok(&"x".repeat(1_000))).await;
    let egress = HttpEgress::new(EgressConfig { answers_bytes_max: 6 << 10, ..EgressConfig::default() }).unwrap();
    let mut held = Vec::new();
    let refused = loop {
        match get_as("evil", &egress, &of(&server), &server.url("/")).await {
            Ok(answer) => held.push(answer),
            Err(failure) => break failure,
        }
    };
    assert_eq!((held.len(), refused.code), (3, ErrorCode::Overloaded), "{refused}");
    assert_eq!(get_as("good", &egress, &of(&server), &server.url("/")).await.unwrap().body.len(), 1_000);
}

#[tokio::test]
async fn the_open_requests_of_one_app_leave_some_for_another() {
    let server = Server::start(|head| if head.starts_with("GET /slow") { String::new() } else { ok("") }).await;
    let egress = HttpEgress::new(EgressConfig { requests_max: 4, ..EgressConfig::default() }).unwrap();
    let open = || {
        let (egress, grants, url) = (egress.clone(), of(&server), server.url("/slow"));
        tokio::spawn(async move { get_as("evil", &egress, &grants, &url).await })
    };
    let slow: Vec<_> = (0..2).map(|_| open()).collect();
    while egress.shared.turns.left() > 2 {
        tokio::task::yield_now().await;
    }
    let more = get_as("evil", &egress, &of(&server), &server.url("/slow")).await;
    check(more, ErrorCode::Overloaded, Progress::NotExecuted, "app evil");
    assert!(get_as("good", &egress, &of(&server), &server.url("/")).await.is_ok());
    slow.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn what_breaks_or_takes_too_long_says_whether_it_was_sent() {
    let server = Server::start(|_| String::new()).await;
    let request = HttpRequest::new("GET", server.url("/"), Default::default(), 1);
    let late = egress()
        .send(request, &"shop".parse().unwrap(), &of(&server), Instant::now() + Duration::from_millis(50))
        .await;
    check(late, ErrorCode::DeadlineExceeded, Progress::MaybeExecuted, "deadline");
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://{closed}");
    check(
        get(&egress(), &granted(&[&url]), &url).await,
        ErrorCode::Unreachable,
        Progress::NotExecuted,
        "no connection",
    );
    let torn = Server::start(|_| "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx".to_owned()).await;
    check(get(&egress(), &of(&torn), &torn.url("/")).await, ErrorCode::PeerLost, Progress::MaybeExecuted, "broke off");
}

#[tokio::test]
async fn only_so_many_requests_are_sent_at_a_time() {
    let mut server = Server::start(|_| String::new()).await;
    let egress = HttpEgress::new(EgressConfig { requests_max: 1, ..EgressConfig::default() }).unwrap();
    let (first, grants, url) = (egress.clone(), of(&server), server.url("/"));
    let first = tokio::spawn(async move { get(&first, &grants, &url).await });
    server.heads.recv().await.unwrap();
    let answer = get(&egress, &of(&server), &server.url("/")).await;
    check(answer, ErrorCode::Overloaded, Progress::NotExecuted, "as many");
    first.abort();
    first.await.unwrap_err();
    let freed = async {
        while egress.shared.turns.left() == 0 {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(Duration::from_secs(20), freed).await.expect("a request that is dropped frees its turn");
}

#[tokio::test]
async fn certificates_are_checked_and_more_authorities_can_be_trusted() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let server = Server::with(Some(TlsAcceptor::from(Arc::new(tls))), |_| ok("sealed")).await;
    let url = format!("https://localhost:{}", server.address.port());
    let answer = get(&egress(), &granted(&[&url]), &url).await;
    check(answer, ErrorCode::Unreachable, Progress::NotExecuted, "certificate");
    let config = EgressConfig { roots_pem: made.cert.pem().into_bytes(), ..EgressConfig::default() };
    let answer = get(&HttpEgress::new(config).unwrap(), &granted(&[&url]), &url).await.unwrap();
    assert_eq!(answer.body.as_ref(), b"sealed");
    let nonsense = EgressConfig {
        roots_pem: b"-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----".to_vec(),
        ..EgressConfig::default()
    };
    assert!(HttpEgress::new(nonsense).is_err());
}

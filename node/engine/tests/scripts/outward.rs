//! Calls and requests that a script makes of others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use skein_engine::{Asked, HttpRequest, HttpResponse, InvokeRequest, Output, RunError, Services};
use skein_proto::{ErrorCode, Failure, Grants, Limits, Manifest};

use crate::support::{call, load_as, manifest, text};

/// Answers a call with its payload in brackets, and a request with its head, when all that began together have begun.
#[derive(Default)]
struct Echo {
    begun: AtomicUsize,
    wanted: usize,
}

impl Echo {
    async fn meet(self: Arc<Self>) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        std::future::poll_fn(|context| {
            if self.begun.load(Ordering::SeqCst) >= self.wanted {
                return std::task::Poll::Ready(());
            }
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
    }
}

struct Outside(Arc<Echo>);

impl Services for Outside {
    fn invoke(&self, request: InvokeRequest) -> Asked<Bytes> {
        let echo = Arc::clone(&self.0);
        Box::pin(async move {
            echo.meet().await;
            if request.reference == "shop/broken" {
                return Err(Failure::executed(ErrorCode::FunctionFailed, "it broke"));
            }
            let headers: Vec<String> = request.headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let payload = String::from_utf8_lossy(&request.payload).into_owned();
            Ok(format!("[\"{}\", {payload}, \"{}\"]", request.reference, headers.join(";")).into())
        })
    }

    fn http(&self, request: HttpRequest) -> Asked<HttpResponse> {
        let echo = Arc::clone(&self.0);
        Box::pin(async move {
            echo.meet().await;
            let head = serde_json::json!({ "method": request.method, "url": request.url, "headers": request.headers,
                "body": String::from_utf8_lossy(&request.body) });
            let headers =
                vec![("content-type".to_owned(), "application/json".to_owned()), ("x-a".to_owned(), "b".to_owned())];
            Ok(HttpResponse { status: 201, headers, body: head.to_string().into() })
        })
    }
}

fn run(body: &str, wanted: usize, limits: Limits) -> Result<Output, RunError> {
    let grants = Grants {
        invoke: vec!["shop/*".to_owned()],
        http: vec!["https://api.example.com".to_owned()],
        ..Grants::default()
    };
    let manifest = Manifest { grants, limits, ..manifest() };
    let program = load_as(format!("export default {body};").into_bytes(), &manifest).unwrap();
    let mut call = call("");
    call.limits = limits;
    call.services = Some(Arc::new(Outside(Arc::new(Echo { wanted, ..Echo::default() }))));
    program.run(call)
}

fn check(body: &str, wanted: usize, expected: &str) {
    assert_eq!(text(run(body, wanted, manifest().limits)), expected, "{body}");
}

#[test]
fn a_script_calls_other_functions() {
    check(
        "async (_, ctx) => (await ctx.invoke('shop/price@3', { a: 1 }, { headers: { 'X-B': 'c' } }))",
        1,
        r#"["shop/price@3",{"a":1},"x-b=c"]"#,
    );
    check(
        "async (_, ctx) => { try { await ctx.invoke('shop/broken', 1); } catch (error) { return [error.name, error.code, error.message, error.progress]; } }",
        1,
        r#"["InvokeError","function-failed","it broke","executed"]"#,
    );
    let refused = text(run("(_, ctx) => ctx.invoke('other/price', 1)", 1, manifest().limits));
    assert!(refused.contains("InvokeError: calling other/price is not granted"), "{refused}");
}

#[test]
fn calls_that_are_made_together_go_on_together() {
    check(
        "async (_, ctx) => (await Promise.all([1, 2, 3, 4].map((n) => ctx.invoke('shop/f', n)))).map((answer) => answer[1])",
        4,
        "[1,2,3,4]",
    );
    check(
        "async (_, ctx) => Promise.race([ctx.invoke('shop/f', 1), new Promise((done) => setTimeout(done, 20, 'late'))])",
        9,
        "late",
    );
}

#[test]
fn fetch_reaches_granted_origins() {
    check(
        "async () => { const response = await fetch('https://api.example.com/v1?x=1#y', { method: 'POST', body: 'b', headers: { A: 'c' } }); \
         const { method, url, headers, body } = await response.json(); \
         return [response.status, response.ok, response.headers.get('X-A'), method, url, Object.fromEntries(headers), body]; }",
        1,
        r#"[201,true,"b","POST","https://api.example.com/v1?x=1",{"a":"c","content-type":"text/plain;charset=UTF-8"},"b"]"#,
    );
    let refused = text(run("() => fetch('https://evil.example/')", 1, manifest().limits));
    assert!(refused.contains("fetch failed: requests to https://evil.example are not granted"), "{refused}");
    check(
        "async () => { const control = new AbortController(); setTimeout(() => control.abort(), 10); \
         try { await fetch('https://api.example.com/', { signal: control.signal }); } catch (error) { return error.name; } }",
        9,
        "AbortError",
    );
}

#[test]
fn outward_requests_are_counted() {
    let limits = Limits { outbound: 2, ..manifest().limits };
    let said = text(run("async (_, ctx) => { for (let i = 0; i < 3; i++) await ctx.invoke('shop/f', i); }", 1, limits));
    assert!(said.contains("at most 2 others (limits.outbound)"), "{said}");
}

#[test]
fn a_script_that_waits_for_others_is_stopped_at_its_deadline() {
    let limits = Limits { deadline_ms: 200, ..manifest().limits };
    let ended = run("(_, ctx) => ctx.invoke('shop/f', 1)", 9, limits);
    assert!(matches!(ended, Err(RunError::Deadline { .. })), "{ended:?}");
    let _ = Duration::ZERO;
}

#[test]
fn without_grants_there_is_no_way_out() {
    let program = load_as(
        b"export default (_, ctx) => ctx.invoke('shop/f', 1).catch((error) => error.code);".to_vec(),
        &manifest(),
    )
    .unwrap();
    assert_eq!(text(program.run(call(""))), "not-granted");
}

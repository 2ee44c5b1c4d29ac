//! Extism plug-ins: what each host function gives, as in Extism's own runtime, and what hostile plug-ins come to.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use skein_engine::{
    Asked, Call, EngineError, HttpRequest, HttpResponse, InvokeRequest, Output, Program, RunError, Services,
};
use skein_proto::{Digest, ErrorCode, Failure, Grants, InstancePolicy, Limits, Manifest, Progress};

use crate::support::{Bench, LONG, call, code, plain};

const ABI: &str = include_str!("extism/abi.wat");
const TABLE: &str = include_str!("extism/abi.tsv");

/// A plug-in's program, called by `entry`.
fn plugin(bench: &Bench, text: &str, entry: &str, grants: Grants) -> Result<Arc<Program>, EngineError> {
    let code = code(text);
    let manifest = Manifest { entry: Some(entry.to_owned()), grants, ..plain() };
    bench.engine.load(Digest::of(&code), &manifest, || Ok(code.clone()))
}

/// A plug-in with `body` as its `handle`, after the imports that tests want.
fn handler(body: &str) -> String {
    let imports = [
        ("env", "alloc", "(param i64) (result i64)"),
        ("env", "free", "(param i64)"),
        ("env", "length", "(param i64) (result i64)"),
        ("env", "store_u8", "(param i64 i32)"),
        ("env", "store_u64", "(param i64 i64)"),
        ("env", "load_u64", "(param i64) (result i64)"),
        ("env", "input_offset", "(result i64)"),
        ("env", "input_length", "(result i64)"),
        ("env", "output_set", "(param i64 i64)"),
        ("env", "error_set", "(param i64)"),
        ("env", "var_get", "(param i64) (result i64)"),
        ("env", "var_set", "(param i64 i64)"),
        ("env", "config_get", "(param i64) (result i64)"),
        ("env", "log_debug", "(param i64)"),
        ("env", "log_warn", "(param i64)"),
        ("env", "get_log_level", "(result i32)"),
        ("env", "http_request", "(param i64 i64) (result i64)"),
        ("env", "http_status_code", "(result i32)"),
        ("env", "http_headers", "(result i64)"),
        ("user", "skein_invoke", "(param i64 i64) (result i64)"),
        ("user", "skein_invoke_with", "(param i64 i64 i64) (result i64)"),
        ("user", "skein_error", "(result i64)"),
    ];
    let imports: String = imports
        .map(|(module, name, ty)| format!("(import \"extism:host/{module}\" \"{name}\" (func ${name} {ty}))\n"))
        .concat();
    format!(
        r#"(module {imports}
        (memory (export "memory") 1)
        ;; The block as the output, whole.
        (func $give (param $at i64) (call $output_set (local.get $at) (call $length (local.get $at))))
        (func (export "handle") (result i32) (local $a i64) {body} (i32.const 0)))"#
    )
}

fn run(text: &str, input: &'static str) -> Result<Output, RunError> {
    let bench = Bench::new();
    let program = plugin(&bench, text, "handle", Grants::default()).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    program.run(Call { payload: input.into(), ..call(LONG) })
}

/// How a run ended, in the words of the table.
fn told(result: Result<Output, RunError>) -> String {
    match result {
        Ok(output) => format!("={}", String::from_utf8_lossy(&output.payload)),
        Err(RunError::Exit { code, .. }) => format!("!{code}"),
        Err(error) => format!("!{error}"),
    }
}

#[test]
fn every_function_gives_what_extisms_own_runtime_gives() {
    let bench = Bench::new();
    let env = [("colour".to_owned(), "green".to_owned())];
    let mut rows = 0;
    for row in TABLE.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = row.split('\t').collect();
        let (entry, input) = (columns[0], if columns[1] == "-" { "" } else { columns[1] });
        let expected = columns.get(3).unwrap_or(&columns[2]);
        let program = plugin(&bench, ABI, entry, Grants::default()).unwrap_or_else(|error| panic!("{entry}: {error}"));
        let result = program.run(Call { payload: Bytes::copy_from_slice(input.as_bytes()), env: &env, ..call(LONG) });
        if let Some(number) = expected.strip_prefix('#') {
            let number: u64 = number.parse().unwrap();
            assert_eq!(result.unwrap().payload, number.to_le_bytes()[..], "{entry}");
        } else {
            let told = told(result);
            let is_same = if expected.starts_with('!') { told.starts_with(expected) } else { told == *expected };
            assert!(is_same, "{entry}: {told}, not {expected}");
        }
        rows += 1;
    }
    assert!(rows > 50, "{rows}");
}

#[test]
fn a_message_goes_to_the_log_with_its_level_and_those_below_the_level_do_not() {
    let body = "(call $log_debug (call $input_offset)) (call $log_warn (call $input_offset))
        (if (i32.ne (call $get_log_level) (i32.const 2)) (then unreachable))";
    let warning = body.replacen("(call $log_debug (call $input_offset))", "", 1);
    assert_eq!(run(&handler(&warning), "tea").unwrap().log, "[warn] tea\n");
    assert_eq!(run(&handler(body), "tea").unwrap().log, "[warn] \n", "the text is freed where it is dropped too");
    let bench = Bench::new();
    let level = |level: &str| {
        let env = [("EXTISM_LOG_LEVEL".to_owned(), level.to_owned())];
        let text =
            handler("(call $log_debug (call $input_offset)) (call $store_u8 (i64.const 0) (call $get_log_level))");
        let program = plugin(&bench, &text, "handle", Grants::default()).unwrap();
        String::from_utf8(program.run(Call { payload: "tea".into(), env: &env, ..call(LONG) }).unwrap().log.to_vec())
            .unwrap()
    };
    assert_eq!(
        ["debug", "TRACE", "info", "off", "nonsense"].map(level),
        ["[debug] tea\n", "[debug] tea\n", "", "", ""]
    );
}

#[test]
fn the_initialiser_of_the_toolchain_is_called_once_before_the_handler() {
    let text = |init: &str| {
        format!(
            r#"(module
            (import "extism:host/env" "alloc" (func $alloc (param i64) (result i64)))
            (import "extism:host/env" "store_u64" (func $store_u64 (param i64 i64)))
            (import "extism:host/env" "output_set" (func $output_set (param i64 i64)))
            (global $calls (mut i64) (i64.const 0))
            (func $note (param $digit i64)
                (global.set $calls (i64.add (i64.mul (global.get $calls) (i64.const 10)) (local.get $digit))))
            {init}
            (func (export "handle") (result i32)
                (local $a i64)
                (local.set $a (call $alloc (i64.const 8)))
                (call $store_u64 (local.get $a) (global.get $calls))
                (call $output_set (local.get $a) (i64.const 8))
                (i32.const 0)))"#
        )
    };
    let initialize = r#"(func (export "_initialize") (call $note (i64.const 1)))"#;
    let ctors = r#"(func (export "__wasm_call_ctors") (call $note (i64.const 2)))"#;
    let haskell = r#"(func (export "hs_init") (param i32 i32)
        (call $note (i64.extend_i32_u (i32.add (i32.const 3) (i32.or (local.get 0) (local.get 1))))))"#;
    for (init, expected) in [
        (String::new(), 0),
        (initialize.to_owned(), 1),
        (ctors.to_owned(), 2),
        (format!("{initialize}{ctors}"), 2),
        (format!("{initialize}{ctors}{haskell}"), 13),
    ] {
        let output = run(&text(&init), "").unwrap().payload;
        assert_eq!(output, u64::to_le_bytes(expected)[..], "{init}");
    }
}

#[test]
fn a_plug_in_that_cannot_be_called_is_refused_by_name() {
    let bench = Bench::new();
    let refused = |text: &str, entry: &str, expected: &[&str]| {
        let manifest = Manifest { entry: Some(entry.to_owned()), ..plain() };
        let error = bench.engine.inspect(&code(text), &manifest).unwrap_err().to_string();
        assert!(expected.iter().all(|part| error.contains(part)), "{entry}: {error}");
    };
    refused(ABI, "missing", &["`missing`", "echo_input", "entry"]);
    refused(ABI, "memory", &["`memory`"]);
    let import = |module: &str, name: &str, ty: &str| {
        format!(
            r#"(module (import "{module}" "{name}" (func {ty})) (func (export "handle") (result i32) (i32.const 0)))"#
        )
    };
    refused(&import("extism:host/env", "alloc", "(param i32) (result i32)"), "handle", &["alloc", "another signature"]);
    refused(&import("extism:host/env", "teleport", ""), "handle", &["extism:host/env.teleport"]);
    refused(&import("extism:host/user", "hello_world", "(param i64) (result i64)"), "handle", &["hello_world"]);
    let typed = r#"(module (import "extism:host/env" "reset" (func)) (func (export "handle") (param i32)))"#;
    refused(typed, "handle", &["`handle`", "take nothing"]);
}

// --- hostile -------------------------------------------------------------------------------------------------------

fn limited(text: &str, limits: Limits) -> Result<Output, RunError> {
    let bench = Bench::new();
    let program = plugin(&bench, text, "handle", Grants::default()).unwrap();
    program.run(Call { limits, ..call(LONG) })
}

#[test]
fn blocks_count_as_memory_and_a_bomb_of_them_is_over_the_limit() {
    let bomb = |size: u64| {
        handler(&format!("(loop $more (if (i64.eqz (call $alloc (i64.const {size}))) (then unreachable)) (br $more))"))
    };
    for size in [1, 1 << 10, 1 << 20, 3 << 20] {
        let error = limited(&bomb(size), Limits { memory_bytes: 4 << 20, ..Limits::default() }).unwrap_err();
        assert!(matches!(error, RunError::Memory { bytes_max, .. } if bytes_max == 4 << 20), "{size}: {error}");
    }
    // Freed, they count no more: a thousand times the limit goes through.
    let text = "(local $i i32) (loop $more
        (local.set $a (call $alloc (i64.const 1048576)))
        (if (i64.eqz (local.get $a)) (then unreachable))
        (call $free (local.get $a))
        (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 4000))))";
    let text =
        handler(&text.replacen("(local $i i32)", "", 1)).replacen("(local $a i64)", "(local $a i64) (local $i i32)", 1);
    limited(&text, Limits { memory_bytes: 4 << 20, ..Limits::default() }).unwrap();
}

#[test]
fn linear_memory_and_blocks_share_one_limit() {
    let limits = Limits { memory_bytes: 4 << 20, ..Limits::default() };
    // 3 MiB and then more than what is left, in both orders.
    let blocks_last = "(if (i32.ne (memory.grow (i32.const 47)) (i32.const 1)) (then unreachable))
        (if (i64.ne (call $alloc (i64.const 1048577)) (i64.const 0)) (then unreachable))
        (if (i64.eqz (call $alloc (i64.const 1000000))) (then unreachable))";
    let memory_last = "(local.set $a (call $alloc (i64.const 3145728)))
        (if (i32.ne (memory.grow (i32.const 15)) (i32.const -1)) (then unreachable))
        (call $free (local.get $a))
        (if (i32.ne (memory.grow (i32.const 15)) (i32.const 1)) (then unreachable))";
    for body in [blocks_last, memory_last] {
        limited(&handler(body), limits).unwrap();
    }
}

#[test]
fn a_result_over_its_limit_is_told_apart_from_one_that_is_not_there() {
    let text = handler("(call $give (call $alloc (i64.const 2000)))");
    let error = limited(&text, Limits { payload_bytes: 1999, ..Limits::default() }).unwrap_err();
    assert!(matches!(error, RunError::Output { bytes_max: 1999, .. }), "{error}");
    assert_eq!(limited(&text, Limits { payload_bytes: 2000, ..Limits::default() }).unwrap().payload.len(), 2000);
    // What an allocation that was refused gives is no result either.
    let text = handler("(call $output_set (call $alloc (i64.const 5000000)) (i64.const 5))");
    let error = limited(&text, Limits { memory_bytes: 1 << 20, ..Limits::default() }).unwrap_err();
    assert!(matches!(error, RunError::Memory { .. }), "{error}");
}

#[test]
fn a_flood_of_messages_fills_the_log_and_no_more() {
    let text = handler("(loop $more (call $log_warn (call $alloc (i64.const 1000))) (br $more))");
    let bench = Bench::new();
    let program = plugin(&bench, &text, "handle", Grants::default()).unwrap();
    let limits = Limits { log_bytes: 10_000, ..Limits::default() };
    let error = program.run(Call { limits, ..call(Duration::from_millis(200)) }).unwrap_err();
    let RunError::Deadline { output, .. } = error else { panic!("{error}") };
    assert_eq!(output.log.len(), 10_000);
    assert!(output.log_bytes_total > 10_000);
}

#[test]
fn variables_cannot_grow_without_end() {
    let text = handler(
        "(loop $more
            (local.set $a (i64.add (local.get $a) (i64.const 1)))
            (call $var_set (call $key (local.get $a)) (call $alloc (i64.const 1000)))
            (br $more))",
    )
    .replacen(
        "(func (export \"handle\")",
        "(func $key (param $n i64) (result i64) (local $k i64)
            (local.set $k (call $alloc (i64.const 8))) (call $store_u64 (local.get $k) (local.get $n)) (local.get $k))
        (func (export \"handle\")",
        1,
    );
    let error = limited(&text, Limits::default()).unwrap_err();
    assert!(matches!(&error, RunError::Failed { code: ErrorCode::LimitExceeded, .. }), "{error}");
}

#[test]
fn nothing_of_a_call_is_there_in_the_next() {
    let bench = Bench::new();
    let text = handler(
        "(local.set $a (call $var_get (call $alloc (i64.const 1))))
        (if (i64.ne (local.get $a) (i64.const 0)) (then unreachable))
        (call $var_set (call $alloc (i64.const 1)) (call $input_offset))
        (call $give (call $alloc (i64.const 64)))",
    );
    let program = plugin(&bench, &text, "handle", Grants::default()).unwrap();
    for _ in 0..50 {
        let output = program.run(Call { payload: "secret".into(), ..call(LONG) }).unwrap();
        assert!(output.payload.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn variables_stay_where_instances_are_reused_and_nothing_else_does() {
    let bench = Bench::new();
    let body = "(local.set $a (call $var_get (call $alloc (i64.const 1))))
        (if (i64.eqz (local.get $a)) (then (local.set $a (call $alloc (i64.const 8)))))
        (call $store_u64 (local.get $a) (i64.add (call $load_u64 (local.get $a)) (i64.const 1)))
        (call $output_set (local.get $a) (i64.const 8))
        (call $var_set (call $alloc (i64.const 1)) (local.get $a))";
    let code = code(&handler(body));
    let counts = |instance: InstancePolicy| {
        let manifest = Manifest { instance, ..plain() };
        let program = bench.engine.load(Digest::of(&code), &manifest, || Ok(code.clone())).unwrap();
        [(); 3].map(|()| program.run(call(LONG)).unwrap().payload[0])
    };
    assert_eq!((counts(InstancePolicy::Reuse), counts(InstancePolicy::Fresh)), ([1, 2, 3], [1, 1, 1]));
}

#[test]
fn a_variable_that_the_initialiser_sets_is_there_in_every_call() {
    let text = handler("(call $give (call $var_get (call $key)))").replacen(
        "(func (export \"handle\")",
        "(func $key (result i64) (call $alloc (i64.const 3)))
        (func (export \"_initialize\") (call $var_set (call $key) (call $alloc (i64.const 5))))
        (func (export \"handle\")",
        1,
    );
    let bench = Bench::new();
    let program = plugin(&bench, &text, "handle", Grants::default()).unwrap();
    for _ in 0..3 {
        assert_eq!(program.run(call(LONG)).unwrap().payload, [0; 5][..]);
    }
}

// --- outward -------------------------------------------------------------------------------------------------------

/// Answers what it is asked by what it was asked.
struct Mirror;

impl Services for Mirror {
    fn invoke(&self, request: InvokeRequest) -> Asked<Bytes> {
        let answer = if request.reference.contains("broken") {
            Err(Failure::executed(ErrorCode::FunctionFailed, "it broke"))
        } else {
            let payload = String::from_utf8_lossy(&request.payload);
            Ok(format!("{}({payload}){:?}", request.reference, request.headers).into())
        };
        Box::pin(async { answer })
    }

    fn http(&self, request: HttpRequest) -> Asked<HttpResponse> {
        let body = format!("{} {} {:?} {}", request.method, request.url, request.headers, request.body.len());
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let headers = vec![header("vary", "a"), header("x-mirror", "1"), header("vary", "b")];
        Box::pin(async { Ok(HttpResponse { status: 418, headers, body: body.into() }) })
    }
}

fn granted(text: &str, input: &'static str) -> Result<Output, RunError> {
    let bench = Bench::new();
    let list = |entry: &str| vec![entry.to_owned()];
    let grants = Grants { http: list("https://api.example.com"), invoke: list("shop/*"), ..Grants::default() };
    let program = plugin(&bench, text, "handle", grants).unwrap();
    program.run(Call { payload: input.into(), services: Some(Arc::new(Mirror)), ..call(LONG) })
}

#[test]
fn a_request_to_a_granted_origin_is_answered_with_status_headers_and_body() {
    let request = r#"{"url":"HTTPS://API.example.com/v1?x=1","method":"put","headers":{"a":"b"}}"#;
    let body = "(local.set $a (call $http_request (call $input_offset) (call $alloc (i64.const 5))))
        (if (i32.ne (call $http_status_code) (i32.const 418)) (then unreachable))
        (call $give (local.get $a))";
    let output = granted(&handler(body), request).unwrap().payload;
    assert_eq!(output, r#"PUT https://api.example.com/v1?x=1 [("a", "b")] 5"#);
    let body = "(drop (call $http_request (call $input_offset) (i64.const 0))) (call $give (call $http_headers))";
    assert_eq!(granted(&handler(body), request).unwrap().payload, r#"{"vary":"a, b","x-mirror":"1"}"#);
    for url in
        ["https://evil.example.com/", "http://api.example.com/", "https://api.example.com:444/", "file:///etc/passwd"]
    {
        let request: &'static str = format!(r#"{{"url":"{url}"}}"#).leak();
        let error = granted(&handler(body), request).unwrap_err();
        let failure = Failure::from(error);
        assert!([ErrorCode::NotGranted, ErrorCode::FunctionFailed].contains(&failure.code), "{url}: {failure:?}");
        assert_eq!(failure.progress, Progress::Executed);
    }
}

#[test]
fn another_function_is_called_and_its_failure_is_the_guests_to_handle() {
    // The input is reference, space, and what goes along: the first ten bytes are the reference.
    let body = |call: &str| {
        handler(&format!(
            "(local.set $a (call $alloc (i64.const 10)))
            (call $store_u64 (local.get $a) (call $load_u64 (call $input_offset)))
            (call $store_u8 (i64.add (local.get $a) (i64.const 8)) (i32.const 99))
            (call $store_u8 (i64.add (local.get $a) (i64.const 9)) (i32.const 101))
            {call}"
        ))
    };
    // "shop/pri" and "ce".
    let plain = body("(call $give (call $skein_invoke (local.get $a) (call $input_offset)))");
    assert_eq!(granted(&plain, "shop/pri").unwrap().payload, "shop/price:live(shop/pri)[]");
    let nothing = body("(call $give (call $skein_invoke (local.get $a) (i64.const 0)))");
    assert_eq!(granted(&nothing, "shop/pri").unwrap().payload, "shop/price:live()[]");
    let refused = body(
        "(if (i64.ne (call $skein_invoke (local.get $a) (i64.const 0)) (i64.const 0)) (then unreachable))
        (call $give (call $skein_error))",
    );
    let output = String::from_utf8(granted(&refused, "bank/pri").unwrap().payload.to_vec()).unwrap();
    assert!(output.contains(r#""code":"not-granted""#) && output.contains("bank/price"), "{output}");
    let told = handler(
        "(if (i64.ne (call $skein_invoke (call $input_offset) (i64.const 0)) (i64.const 0)) (then unreachable))
        (call $give (call $skein_error))",
    );
    let output = String::from_utf8(granted(&told, "shop/broken").unwrap().payload.to_vec()).unwrap();
    assert!(output.contains(r#""message":"it broke""#) && output.contains(r#""progress":"executed""#), "{output}");
    let output = String::from_utf8(granted(&told, "no reference").unwrap().payload.to_vec()).unwrap();
    assert!(output.contains("bad-request"), "{output}");
    let with = body("(call $give (call $skein_invoke_with (local.get $a) (i64.const 0) (call $options)))").replacen(
        "(func (export",
        r#"(data (i32.const 0) "{\"headers\":{\"a\":\"b\"}}   ")
        (func $options (result i64) (local $o i64) (local $i i32)
            (local.set $o (call $alloc (i64.const 24)))
            (loop $more
                (call $store_u64 (i64.add (local.get $o) (i64.extend_i32_u (local.get $i))) (i64.load (local.get $i)))
                (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 8))) (i32.const 24))))
            (local.get $o))
        (func (export"#,
        1,
    );
    assert_eq!(granted(&with, "shop/pri").unwrap().payload, r#"shop/price:live()[("a", "b")]"#);
    let error = granted(&handler("(drop (call $skein_invoke (i64.const 77) (i64.const 0)))"), "").unwrap_err();
    assert!(error.to_string().contains("there is no block at 77"), "{error}");
}

#[test]
fn what_a_plug_in_writes_to_stdout_is_no_result() {
    let text = handler(
        "(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 5))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (call $give (call $input_offset))",
    );
    let text = text.replacen(
        "(module",
        r#"(module (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))"#,
        1,
    );
    let text = text.replacen("(func (export", "(data (i32.const 64) \"chat\\n\") (func (export", 1);
    let output = run(&text, "result").unwrap();
    assert_eq!((&output.payload[..], &output.log[..]), (&b"result"[..], &b"chat\n"[..]));
}

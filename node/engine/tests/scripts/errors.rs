//! What goes wrong, and what the author is told.

use std::time::Duration;

use skein_engine::{EngineError, RunError, StopHandle};
use skein_proto::{ErrorCode, Failure, Limits, Manifest, Progress};
use tokio::time::Instant;

use crate::support::{LONG, bundle, call, engine, engine_with, load, load_as, manifest, run, text};

fn refused(code: &[u8], expected: &str) {
    match engine().inspect(code, &manifest()) {
        Err(EngineError::Module(message)) => assert!(message.contains(expected), "{message}"),
        other => panic!("{}: {other:?}", String::from_utf8_lossy(code)),
    }
}

#[test]
fn a_thrown_error_names_the_place_in_the_authors_source() {
    let code = bundle(&[
        ("index.js", "import { price } from './lib/price.js';\n\nexport default (input) =>\n  price(input);\n"),
        (
            "lib/price.js",
            "export const price = (input) => {\n  // why\n  throw new RangeError(\n    `no price for ${input}`,\n  );\n};\n",
        ),
    ]);
    let program = load_as(code, &manifest()).unwrap();
    let error = program.run(call("tea")).unwrap_err();
    assert_eq!(error.to_string(), "RangeError: no price for tea (lib/price.js:3:9)");
    let log = String::from_utf8_lossy(&error.output().unwrap().log).into_owned();
    assert!(log.contains("at price (lib/price.js:3:9)\n    at default (index.js:4:3)"), "{log}");
}

#[test]
fn what_is_thrown_need_not_be_an_error() {
    assert_eq!(run("() => { throw 'a text' }", ""), "failed: thrown: a text");
    assert_eq!(run("async () => { throw { code: 7 } }", ""), "failed: thrown: { code: 7 }");
    assert!(run("() => undefinedName", "").contains("ReferenceError: undefinedName is not defined (index.js:1:"));
    assert!(
        run("() => new Promise((_, no) => setTimeout(() => no(new Error('late')), 5))", "")
            .contains("Error: late (index.js:1:")
    );
    assert!(run("() => { setTimeout(() => { throw new Error('alone') }, 1); return new Promise((done) => setTimeout(done, 50)); }", "").contains("Error: alone"));
}

#[test]
fn a_promise_that_nothing_can_settle_is_an_error() {
    assert!(run("() => new Promise(() => {})", "").contains("never settles"));
}

#[test]
fn what_does_not_load_is_refused_with_its_place() {
    refused(
        b"export default () => {\n  let a = ;\n};",
        "SyntaxError: unexpected token in expression: ';' (index.js:2:11)",
    );
    refused(b"import './missing.js';", "cannot find './missing.js' (imported by index.js): no such file");
    refused(b"import fs from 'node:fs'; export default () => 1;", "it is a part of Node.js");
    refused(b"import x from 'lodash'; export default () => 1;", "no such package in node_modules");
    refused(b"export const handler = () => 1;", "index.js has no default export that is a function");
    refused(b"throw new Error('at once'); export default () => 1;", "Error: at once (index.js:1:7)");
    refused(b"await new Promise(() => {}); export default () => 1;", "never settles");
    refused(
        b"export const input = 'xml'; export default () => 1;",
        "exports input = 'xml'; it may be auto, json, text, bytes",
    );
    refused(b"\0asm\x01\0\0\0\xff", "this is a WebAssembly module");
    refused(b"\xff\xfe", "index.js is not UTF-8 text");
    refused(
        &bundle(&[("index.js", "import a from './a.json'; export default () => a;"), ("a.json", "{")]),
        "a.json is not JSON",
    );
}

#[test]
fn endless_recursion_is_a_range_error_that_a_script_may_catch() {
    let deep = "(input) => { const down = (n) => 1 + down(n + 1); try { down(0); } catch (error) { return [error.name, error.message]; } }";
    assert_eq!(run(deep, ""), r#"["RangeError","Maximum call stack size exceeded"]"#);
    for body in [
        "() => { const f = () => [1].map(f); f(); }",
        "() => { const o = {}; o.toString = () => `${o}`; return `${o}`; }",
        "() => { let a = []; for (let i = 0; i < 100000; i++) a = [a]; return JSON.stringify(a).length; }",
        "() => new Function('return ' + '('.repeat(100000) + ')'.repeat(100000))()",
        "() => { class A { constructor() { new A(); } } new A(); }",
        "() => { const p = new Proxy({}, { get: (t, k, r) => r[k] }); return p.x; }",
        "() => JSON.parse('['.repeat(200000))",
        "() => /(a*)*b/.test('a'.repeat(25)) || new RegExp('('.repeat(50000) + ')'.repeat(50000)).test('')",
        "() => { const f = (s) => s.replace(/a/, f.bind(null, s)); return f('a'); }",
        "() => { const it = { get [Symbol.iterator]() { return [...it]; } }; return [...it]; }",
    ] {
        let said = run(body, "");
        assert!(
            said.contains("RangeError") || said.contains("SyntaxError") || said.contains("InternalError"),
            "{body}: {said}"
        );
    }
}

#[test]
fn memory_that_runs_out_is_said_and_the_next_call_is_well() {
    let program = load(
        "export default (bomb) => { const all = []; while (bomb) all.push(new Array(10000).fill(all.length)); return 'well'; }",
    );
    assert!(matches!(program.run(call("1")), Err(RunError::Memory { .. })), "{:?}", program.run(call("1")));
    assert_eq!(text(program.run(call("0"))), "well");
    let strings = load("export default () => { let s = 'x'; for (;;) s += s; }");
    let said = strings.run(call(""));
    assert!(matches!(said, Err(RunError::Memory { .. } | RunError::Failed { .. })), "{said:?}");
}

#[test]
fn a_script_that_does_not_end_is_stopped() {
    for body in [
        "() => { for (;;); }",
        "async () => { for (;;) await null; }",
        "() => new Promise(() => setInterval(() => {}, 1))",
        "() => 'a'.repeat(30).match(/^(a|a)*$b/)",
    ] {
        let program = load(&format!("export default {body};"));
        let mut call = call("");
        (call.deadline, call.stop) = (Instant::now() + Duration::from_millis(150), StopHandle::new());
        let ended = program.run(call);
        assert!(matches!(ended, Err(RunError::Deadline { .. }) | Ok(_)), "{body}: {ended:?}");
    }
}

#[test]
fn a_small_limit_of_memory_is_named_where_it_is_too_small() {
    let manifest = Manifest { limits: Limits { memory_bytes: 1 << 20, ..manifest().limits }, ..manifest() };
    let error = load_as(b"export default () => 1;".to_vec(), &manifest).unwrap_err();
    assert!(error.to_string().contains("limits.memory"), "{error}");
    let _ = LONG;
}

#[test]
fn a_node_without_memory_to_try_a_script_in_is_overloaded_and_says_what_to_do() {
    let engine = engine_with(|config| config.memory_bytes_max = 4 << 20);
    let taken = engine.room(7 << 19).unwrap();
    // As it is made, and as its top level wants more.
    for code in ["export default () => 1;", "const list = new Array(1e5).fill(0); export default () => list.length;"] {
        let failure = Failure::from(engine.inspect(code.as_bytes(), &manifest()).unwrap_err());
        assert_eq!((failure.code, failure.progress), (ErrorCode::Overloaded, Progress::NotExecuted), "{failure}");
        assert!(failure.message.contains("repeat it later, or at another node"), "{failure}");
    }
    drop(taken);
    engine.inspect(b"export default () => 1;", &manifest()).unwrap();
}

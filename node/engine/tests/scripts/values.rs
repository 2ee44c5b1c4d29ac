//! What goes in and what comes out.

use crate::support::{bundle, call, load, load_as, manifest, run, text};

fn check(body: &str, payload: &str, expected: &str) {
    assert_eq!(run(body, payload), expected, "{body} with {payload}");
}

#[test]
fn a_payload_is_what_it_looks_like() {
    let kind = "(input) => [typeof input, input]";
    check(kind, r#"{"a": [1, null]}"#, r#"["object",{"a":[1,null]}]"#);
    check(kind, "world", r#"["string","world"]"#);
    check(kind, "42", r#"["number",42]"#);
    check("(input) => typeof input", "", "undefined");
    check("(input) => input.length", "häß", "3");
}

#[test]
fn a_content_type_is_taken_at_its_word() {
    let program = load("export default (input) => [typeof input, input]");
    let with = |kind: &str, payload: &str| {
        let env = [("HTTP_CONTENT_TYPE".to_owned(), kind.to_owned())];
        let mut call = call(payload);
        call.env = &env;
        text(program.run(call))
    };
    assert_eq!(with("text/plain; charset=utf-8", "42"), r#"["string","42"]"#);
    assert_eq!(with("application/json", "42"), r#"["number",42]"#);
    assert_eq!(with("application/vnd.api+json", "[1]"), r#"["object",[1]]"#);
    assert!(
        with("application/json", "{").contains("SyntaxError: the payload is not JSON"),
        "{}",
        with("application/json", "{")
    );
}

#[test]
fn an_author_may_ask_for_text_bytes_or_json() {
    let kind = |kind: &str, payload: &str| {
        text(
            load(&format!(
                "export const input = '{kind}'; export default (input) => [input.constructor.name, input.length]"
            ))
            .run(call(payload)),
        )
    };
    assert_eq!(kind("text", "42"), r#"["String",2]"#);
    assert_eq!(kind("bytes", "ä"), r#"["Uint8Array",2]"#);
    assert_eq!(kind("json", "[1]"), r#"["Array",1]"#);
    assert!(kind("json", "x").contains("the payload is not JSON"));
}

#[test]
fn a_result_is_json_unless_it_is_text_or_bytes() {
    check("() => ({ a: 1, b: undefined })", "", r#"{"a":1}"#);
    check("() => 'text'", "", "text");
    check("() => null", "", "null");
    check("() => undefined", "", "");
    check("() => new Uint8Array([104, 105])", "", "hi");
    check("async () => new TextEncoder().encode('later').buffer", "", "later");
    check("() => Response.json({ ok: true })", "", r#"{"ok":true}"#);
    assert!(run("() => () => 1", "").contains("TypeError: the result is a function, which has no JSON"));
    assert!(run("() => 1n", "").contains("BigInt"));
}

#[test]
fn a_context_says_what_the_call_is() {
    let env = [
        ("HTTP_X_TOKEN", "t"),
        ("SKEIN_FUNCTION", "shop/price"),
        ("SKEIN_VERSION", "3"),
        ("SKEIN_INVOCATION", "i"),
        ("CURRENCY", "EUR"),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let program = load(
        "export default (_, ctx) => [ctx.headers.get('X-Token'), ctx.function, ctx.version, ctx.invocation, ctx.env.CURRENCY, \
         ctx.deadline > new Date() && ctx.remaining() > 1000, ctx.log('a', { b: 1 })]",
    );
    let mut call = call("");
    call.env = &env;
    let output = program.run(call).unwrap();
    assert_eq!(output.payload, r#"["t","shop/price",3,"i","EUR",true,null]"#);
    assert_eq!(output.log, "a { b: 1 }\n");
}

#[test]
fn files_and_packages_find_each_other() {
    let code = bundle(&[
        (
            "index.js",
            "import { b } from './lib/b.js'; import data from './data.json'; import esm, { named } from 'esm'; import common from 'common/sub'; export default async () => [b, data.x, esm, named, common.sum(1, 2), (await import('./lib/late.js')).late];",
        ),
        ("lib/b.js", "export { c as b } from './c';"),
        ("lib/c.js", "export const c = 'c';"),
        ("lib/late.js", "export const late = import.meta.url;"),
        ("data.json", r#"{"x": 7}"#),
        (
            "node_modules/esm/package.json",
            r#"{"name": "esm", "type": "module", "exports": {".": {"node": "./node.js", "import": "./m.js", "require": "./c.cjs"}}}"#,
        ),
        ("node_modules/esm/m.js", "export default 'module'; export const named = 'named';"),
        ("node_modules/esm/c.cjs", "module.exports = 'wrong';"),
        ("node_modules/common/package.json", r#"{"main": "main.js"}"#),
        (
            "node_modules/common/sub.js",
            "exports.sum = (a, b) => require('./add')(a, b); exports.again = require('./sub') === exports;",
        ),
        ("node_modules/common/add/index.js", "module.exports = (a, b) => a + b;"),
    ]);
    let program = load_as(code, &manifest()).unwrap();
    assert_eq!(text(program.run(call(""))), r#"["c",7,"module","named",3,"file:///lib/late.js"]"#);
}

#[test]
fn commonjs_is_a_handler_too() {
    let program = load("const { a } = { a: 1 }; module.exports = async (input) => a + input;");
    assert_eq!(text(program.run(call("2"))), "3");
}

#[test]
fn timers_fire_in_order_and_the_rest_is_dropped() {
    check(
        "async () => { const seen = []; setTimeout(() => seen.push(3), 30); setTimeout(() => seen.push(1), 1); \
         setTimeout(() => seen.push('never'), 60000); await new Promise((done) => setTimeout(done, 60)); return seen; }",
        "",
        "[1,3]",
    );
}

//! What is refused before it runs, and in which words.

use std::fmt::Write as _;

use skein_engine::EngineError;
use skein_proto::{ErrorCode, Failure, Limits};

use crate::support::{Bench, code, manifest};

/// Inspects and prepares `code`: both refuse it, with a message that has all of `expected`.
fn check(bench: &Bench, code: &[u8], expected: &[&str]) {
    let error = bench.engine.inspect(code, &manifest(Limits::default())).expect_err("inspected");
    let prepared =
        bench.engine.prepare(skein_proto::Digest::of(code), &crate::support::plain(), code).expect_err("prepared");
    assert_eq!(error.to_string(), prepared.to_string());
    let failure = Failure::from(error);
    for word in expected {
        assert!(failure.message.contains(word), "expected `{word}` in: {}", failure.message);
    }
    assert!(matches!(failure.code, ErrorCode::BadModule | ErrorCode::TooLarge), "{}", failure.code);
}

fn check_text(bench: &Bench, text: &str, expected: &[&str]) {
    check(bench, &code(text), expected);
}

#[test]
fn what_is_no_module_is_refused_fast_and_by_name() {
    let bench = Bench::new();
    check(&bench, b"", &["empty"]);
    check(&bench, b"hello world", &["is text"]);
    check(&bench, b"\0asm\x0d\0\x01\0", &["component", "preview 1"]);
    check(&bench, &vec![0; 100 << 20], &["zeros"]);
    let mut huge = b"\0asm\x01\0\0\0".to_vec();
    huge.resize(100 << 20, 0);
    check(&bench, &huge, &["104857600", "at most 67108864"]);
}

#[test]
fn a_module_cut_at_any_byte_is_refused() {
    let bench = Bench::new();
    let whole = code("(module (memory 1) (func (export \"_start\") (loop (br 0))))");
    for length in 0..whole.len() {
        let error = bench.engine.inspect(&whole[..length], &manifest(Limits::default())).unwrap_err();
        assert!(matches!(error, EngineError::Module(_)), "{length}: {error}");
    }
    check(&bench, &whole[..whole.len() - 2], &["truncated"]);
}

#[test]
fn every_unknown_import_is_named() {
    let text = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_teleport" (func))
        (import "env" "first" (func)) (import "env" "second" (func (param i32)))
        (import "env" "memory" (memory 1)) (import "js" "table" (table 1 funcref)) (import "js" "g" (global i32))
        (func (export "_start")))"#;
    check_text(
        &Bench::new(),
        text,
        &[
            "wasi_snapshot_preview1.fd_teleport",
            "env.first",
            "env.second",
            "env.memory (a memory)",
            "js.table (a table)",
            "js.g (a global)",
        ],
    );
}

#[test]
fn an_import_of_another_signature_is_named() {
    let text = r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32))) (func (export "_start")))"#;
    check_text(&Bench::new(), text, &["wasi_snapshot_preview1.fd_write", "signature"]);
}

#[test]
fn a_module_without_an_entry_lists_what_it_exports() {
    let bench = Bench::new();
    check_text(&bench, "(module)", &["_start", "nothing"]);
    check_text(&bench, "(module (func (export \"add\")) (memory (export \"mem\") 1))", &["`_start`", "add, mem"]);
    check_text(&bench, "(module (func (export \"_initialize\")) (func (export \"run\")))", &["reactor", "run"]);
    check_text(&bench, "(module (memory (export \"_start\") 1))", &["not a function"]);
    check_text(&bench, "(module (func (export \"_start\") (param i32)))", &["must take nothing, and return nothing"]);
}

#[test]
fn a_table_of_external_references_that_is_initialised_from_a_segment_is_refused() {
    let text = |elements: &str, ty: &str| {
        format!(
            "(module (table $t 1 {ty}) (elem $e {elements})
            (func (export \"_start\") (table.init $t $e (i32.const 0) (i32.const 0) (i32.const 1))))"
        )
    };
    let bench = Bench::new();
    check_text(&bench, &text("externref (ref.null extern)", "externref"), &["table.init", "table.fill"]);
    bench.run(&text("funcref (ref.null func)", "funcref")).unwrap();
    // Any other use of such a segment is as good as none.
    let other = text("externref (ref.null extern)", "externref");
    let other = other.replace("(table.init $t $e (i32.const 0) (i32.const 0) (i32.const 1))", "(elem.drop $e)");
    bench.run(&other).unwrap();
}

#[test]
fn an_export_by_the_engines_own_name_is_refused_with_a_start_section_and_without() {
    let bench = Bench::new();
    let exports = r#"(func $f (export "\01start")) (func (export "_start"))"#;
    check_text(&bench, &format!("(module {exports})"), &["\\u{1}start", "rename it"]);
    check_text(&bench, &format!("(module {exports} (start $f))"), &["\\u{1}start", "rename it"]);
}

#[test]
fn what_skein_does_not_run_is_refused_with_a_way_out() {
    let bench = Bench::new();
    let start = "(func (export \"_start\"))";
    check_text(&bench, &format!("(module (memory 1) (memory 1) {start})"), &["2 memories"]);
    check_text(&bench, &format!("(module (memory 1 2 shared) {start})"), &["threads"]);
    check_text(&bench, &format!("(module (memory i64 1) {start})"), &["wasm32"]);
    check_text(&bench, &format!("(module (tag) {start})"), &["exceptions"]);
    check_text(&bench, "(module (func (export \"_start\") (return_call 0)))", &["tail calls"]);
    check_text(&bench, &format!("(module (table 200000 funcref) {start})"), &["200000 elements in a table"]);
}

#[test]
fn a_module_with_too_much_of_something_is_refused() {
    let bench = Bench::new();
    let mut globals = "(module (func (export \"_start\"))".to_owned();
    for _ in 0..20_001 {
        globals += "(global i32 (i32.const 0))";
    }
    check_text(&bench, &(globals + ")"), &["20001 globals", "at most 20000"]);
    let mut body = "(module (func (export \"_start\")".to_owned();
    for _ in 0..(1 << 20) {
        body += " nop";
    }
    check_text(&bench, &(body + "))"), &["bytes in one function"]);
    let mut locals = "(module (func (export \"_start\") (local".to_owned();
    for _ in 0..20_001 {
        let _ = write!(locals, " i32");
    }
    check_text(&bench, &(locals + ")))"), &["20001 locals"]);
}

#[test]
fn a_module_that_starts_over_the_limit_of_its_manifest_is_refused() {
    let bench = Bench::new();
    let code = code("(module (memory 32) (func (export \"_start\")))");
    let limits = Limits { memory_bytes: 1 << 20, ..Limits::default() };
    let error = bench.engine.inspect(&code, &manifest(limits)).unwrap_err();
    assert!(error.to_string().contains("raise limits.memory"), "{error}");
    let report = bench.engine.inspect(&code, &manifest(Limits::default())).unwrap();
    assert_eq!((report.memory_bytes_min, report.memory_bytes_max, report.functions), (2 << 20, None, 1));
}

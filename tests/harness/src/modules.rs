//! Modules written as text, so that most tests need no compiler.

/// Copies stdin to stdout, whatever its length.
pub const ECHO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "_start")
    (local $left i32) (local $at i32)
    (loop $more
      ;; iovec at 0: buffer at 64, 64 KiB
      (i32.store (i32.const 0) (i32.const 64))
      (i32.store (i32.const 4) (i32.const 65536))
      (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (local.set $left (i32.load (i32.const 8)))
      (local.set $at (i32.const 64))
      (if (i32.eqz (local.get $left)) (then (return)))
      (loop $rest
        (i32.store (i32.const 0) (local.get $at))
        (i32.store (i32.const 4) (local.get $left))
        (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)) (then (unreachable)))
        (local.set $at (i32.add (local.get $at) (i32.load (i32.const 12))))
        (local.set $left (i32.sub (local.get $left) (i32.load (i32.const 12))))
        (br_if $rest (local.get $left)))
      (br $more))))"#;

/// An echo that is a module of its own: the same behaviour, other bytes, so that it is stored and compiled for itself.
pub fn echo_variant(number: usize) -> String {
    let extra = format!("(func (export \"n{number}\") (result i32) (i32.const {number})) (memory (export");
    ECHO.replacen("(memory (export", &extra, 1)
}

/// A module's text as bytes to send.
///
/// # Panics
/// If it does not assemble.
pub fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("a module that assembles")
}

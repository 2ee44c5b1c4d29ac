//! Functions that load a node in a known way, as text: one that computes and one that waits.

/// Computes for so many thousand rounds of a generator, some nanoseconds each, and says nothing. Each `number` gives a
/// module of its own.
pub(crate) fn computing(thousands: u32, number: usize) -> String {
    format!(
        r#"(module
  (memory (export "memory") 1)
  (func (export "n{number}") (result i32) (i32.const {number}))
  (func (export "_start")
    (local $left i32) (local $x i64)
    (local.set $left (i32.const {rounds}))
    (local.set $x (i64.const 88172645463325252))
    (loop $more
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
      (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
      (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (i64.store (i32.const 8) (local.get $x))))"#,
        rounds = thousands * 1_000
    )
}

/// Waits for so many milliseconds and says nothing: how many run at a time decides how many run a second, not the
/// machine.
pub(crate) fn waiting(millis: u32) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const {millis}000000))
    (if (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)) (then unreachable))))"#
    )
}

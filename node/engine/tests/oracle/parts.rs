//! What every generated module has: its imports, and the functions that its own are made of.

/// The farthest data of a module: too far from its first page for one image to hold both.
pub(crate) const FAR: u64 = 270_000_000;

/// The imports, a running sum of what was told, and a source of numbers.
pub(crate) const HEAD: &str = r#"(module
(type $id (func (result i32)))
(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
(import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
(import "skein" "output" (func $output (param i32 i32)))
(import "skein" "log" (func $log (param i32 i32)))
(import "skein" "fail" (func $fail (param i32 i32)))
(global $hash (mut i64) (i64.const 0))
(global $seed (mut i64) (i64.const 1))
(func $mix (param i64)
    (global.set $hash (i64.mul (i64.xor (i64.rotl (global.get $hash) (i64.const 23)) (local.get 0))
        (i64.const 0x100000001b3))))
(func $next64 (result i64)
    (global.set $seed (i64.xor (global.get $seed) (i64.shl (global.get $seed) (i64.const 13))))
    (global.set $seed (i64.xor (global.get $seed) (i64.shr_u (global.get $seed) (i64.const 7))))
    (global.set $seed (i64.xor (global.get $seed) (i64.shl (global.get $seed) (i64.const 17))))
    (i64.mul (global.get $seed) (i64.const 0x2545f4914f6cdd1d)))
(func $next (result i32) (i32.wrap_i64 (i64.shr_u (call $next64) (i64.const 32))))
;; Less than $n, or 0.
(func $below (param $n i32) (result i32)
    (if (result i32) (i32.gt_s (local.get $n) (i32.const 0))
        (then (i32.rem_u (call $next) (local.get $n))) (else (i32.const 0))))
(func $less (param i32 i32) (result i32)
    (select (local.get 0) (local.get 1) (i32.lt_u (local.get 0) (local.get 1))))
"#;

/// What needs a memory: reading the payload, writing what was told, and finding a place to write to.
pub(crate) const NEAR: &str = r#"
(func $end (result i32) (i32.mul (memory.size) (i32.const 65536)))
(func $room (if (i32.eqz (memory.size)) (then (drop (memory.grow (i32.const 1))))))
;; A place that $look looks at, 0 in a memory of no pages.
(func $place (result i32)
    (i32.add (i32.mul (call $below (i32.div_u (call $end) (global.get $stride))) (global.get $stride))
        (i32.mul (i32.ne (memory.size) (i32.const 0)) (call $below (i32.const 9)))))
;; How many bytes there are from a place to the end.
(func $left (param i32) (result i32) (i32.sub (call $end) (local.get 0)))
(func $range (param $at i32) (param $to i32)
    (block $done (loop $more
        (br_if $done (i32.gt_u (i32.add (local.get $at) (i32.const 8)) (call $less (local.get $to) (call $end))))
        (call $mix (i64.load (local.get $at)))
        (local.set $at (i32.add (local.get $at) (i32.const 8))) (br $more))))
(func $begin
    (i32.store (i32.const 0) (i32.const 24)) (i32.store (i32.const 4) (i32.const 8))
    (i64.store (i32.const 24) (i64.const 99))
    (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 12)))
    (global.set $seed (i64.or (i64.load (i32.const 24)) (i64.const 1))))
(func $tell
    (i64.store (i32.const 16) (global.get $hash))
    (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 8))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12))))
(func $print (param $stream i32)
    (i32.store (i32.const 0) (i32.const 100)) (i32.store (i32.const 4) (i32.const 7))
    (drop (call $fd_write (local.get $stream) (i32.const 0) (i32.const 1) (i32.const 12))))
"#;

/// Change after change.
pub(crate) const FOOT: &str = r#"
(func $work (param $steps i32)
    (block $done (loop $more
        (br_if $done (i32.eqz (local.get $steps)))
        (call $change)
        (local.set $steps (i32.sub (local.get $steps) (i32.const 1))) (br $more)))))
"#;

;; Tries: waiting for as many clocks as one may, all an age away.
;; Ends: deadline

(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $at i32)
    (loop $l
      (i32.store offset=16 (local.get $at) (i32.const 1))
      (i64.store offset=24 (local.get $at) (i64.const -1))
      (local.set $at (i32.add (local.get $at) (i32.const 48)))
      (br_if $l (i32.lt_u (local.get $at) (i32.const 12288))))
    (drop (call $poll_oneoff (i32.const 0) (i32.const 20000) (i32.const 256) (i32.const 40000)))))

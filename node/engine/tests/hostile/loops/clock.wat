;; Tries: reading the clock until it goes backwards.
;; Ends: deadline

(module
  (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $last i64)
    (loop $l
      (drop (call $time (i32.const 1) (i64.const 1) (i32.const 0)))
      (if (i64.lt_u (i64.load (i32.const 0)) (local.get $last)) (then (return)))
      (local.set $last (i64.load (i32.const 0)))
      (br $l))))

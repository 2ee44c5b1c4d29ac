;; Tries: clocks that are not, and reading them at every address.
;; Ends: returns

(module
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_res_get" (func $clock_res_get (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $n i32)
    (local.set $n (i32.const 4))
    (loop $l
      (if (i32.eqz (call $clock_time_get (local.get $n) (i64.const -1) (i32.const 0))) (then unreachable))
      (if (i32.eqz (call $clock_res_get (local.get $n) (i32.const 0))) (then unreachable))
      (br_if $l (local.tee $n (i32.shl (local.get $n) (i32.const 1)))))))

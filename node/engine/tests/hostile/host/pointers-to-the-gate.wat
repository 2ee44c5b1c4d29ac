;; Tries: handing the host the address of the page by which guests are stopped.
;; Ends: returns

(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 0xffff0000)) (i32.store (i32.const 4) (i32.const 8))
    (if (i32.eqz (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (then unreachable))
    (if (i32.eqz (call $random_get (i32.const 0xffff0000) (i32.const 8))) (then unreachable))
    (if (i32.eqz (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 0xffff0000))) (then unreachable))))

;; As small.wat, but a reactor: `handle` may be called again and again.
(module
  (import "wasi_snapshot_preview1" "fd_read" (func (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "DATA")
  (func (export "_initialize"))
  (func (export "handle")
    (i32.store (i32.const 2048) (i32.add (i32.load (i32.const 1024)) (i32.const 1)))))

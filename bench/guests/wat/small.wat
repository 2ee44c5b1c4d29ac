;; The smallest thing that has a memory and uses it: three imports, one page, 1 KiB of data, no input, no output.
(module
  (import "wasi_snapshot_preview1" "fd_read" (func (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "DATA")
  (func (export "_start")
    (i32.store (i32.const 2048) (i32.add (i32.load (i32.const 1024)) (i32.const 1)))))

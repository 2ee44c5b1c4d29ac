;; Tries: seeking in, sizing and allocating streams by the largest numbers there are.
;; Ends: returns

(module
  (import "wasi_snapshot_preview1" "fd_seek" (func $fd_seek (param i32 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_tell" (func $fd_tell (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_allocate" (func $fd_allocate (param i32 i64 i64) (result i32)))
  (import "wasi_snapshot_preview1" "fd_advise" (func $fd_advise (param i32 i64 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_set_size" (func $fd_filestat_set_size (param i32 i64) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pread" (func $fd_pread (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pwrite" (func $fd_pwrite (param i32 i32 i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (if (i32.eqz (call $fd_seek (i32.const 1) (i64.const 0x7fffffffffffffff) (i32.const 2) (i32.const 0))) (then unreachable))
    (if (i32.eqz (call $fd_seek (i32.const 1) (i64.const -1) (i32.const 77) (i32.const 0))) (then unreachable))
    (if (i32.eqz (call $fd_tell (i32.const 0) (i32.const 0))) (then unreachable))
    (if (i32.eqz (call $fd_allocate (i32.const 1) (i64.const -1) (i64.const -1))) (then unreachable))
    (if (i32.eqz (call $fd_advise (i32.const 0) (i64.const -1) (i64.const -1) (i32.const 99))) (then unreachable))
    (if (i32.eqz (call $fd_filestat_set_size (i32.const 1) (i64.const -1))) (then unreachable))
    (if (i32.eqz (call $fd_pread (i32.const 0) (i32.const 0) (i32.const 1) (i64.const -1) (i32.const 8))) (then unreachable))
    (if (i32.eqz (call $fd_pwrite (i32.const 1) (i32.const 0) (i32.const 1) (i64.const -1) (i32.const 8))) (then unreachable))))

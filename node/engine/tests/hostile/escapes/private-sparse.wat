;; Tries: a file of eight exabytes with nothing in it.
;; Ends: returns
;; With: scratch=1048576 handles=16 deadline=10000

(module
  (import "wasi_snapshot_preview1" "path_open" (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_set_size" (func $fd_filestat_set_size (param i32 i64) (result i32)))
  (import "wasi_snapshot_preview1" "fd_allocate" (func $fd_allocate (param i32 i64 i64) (result i32)))
  (import "wasi_snapshot_preview1" "fd_seek" (func $fd_seek (param i32 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "a")
  (func (export "_start")
    (if (call $path_open (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 1) (i64.const 4194662) (i64.const 0) (i32.const 0) (i32.const 0)) (then unreachable))
    (if (i32.eqz (call $fd_filestat_set_size (i32.load (i32.const 0)) (i64.const 0x7fffffffffffffff))) (then unreachable))
    (if (i32.eqz (call $fd_allocate (i32.load (i32.const 0)) (i64.const 0) (i64.const 0x7fffffffffffffff))) (then unreachable))
    (drop (call $fd_seek (i32.load (i32.const 0)) (i64.const 0x7ffffffffffffff0) (i32.const 0) (i32.const 32)))
    (i32.store (i32.const 8) (i32.const 0)) (i32.store (i32.const 12) (i32.const 65536))
    (if (i32.eqz (call $fd_write (i32.load (i32.const 0)) (i32.const 8) (i32.const 1) (i32.const 16))) (then unreachable))))

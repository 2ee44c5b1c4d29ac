;; Tries: filling its private directory until it is full.
;; Ends: returns
;; With: scratch=1048576 handles=16 deadline=10000

(module
  (import "wasi_snapshot_preview1" "path_open" (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "a")
  (func (export "_start") (local $n i32)
    (if (call $path_open (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 1) (i64.const 4194662) (i64.const 0) (i32.const 0) (i32.const 0)) (then unreachable))
    (i32.store (i32.const 8) (i32.const 0)) (i32.store (i32.const 12) (i32.const 65536))
    (loop $l
      (br_if $l (i32.and
        (i32.eqz (call $fd_write (i32.load (i32.const 0)) (i32.const 8) (i32.const 1) (i32.const 16)))
        (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000)))))
    (if (i32.ge_u (local.get $n) (i32.const 100)) (then unreachable))))

;; Tries: a hundred thousand descriptors, and the largest: whatever the node has open under the same number is not the guest's.
;; Ends: returns
;; With: deadline=10000

(module
  (import "wasi_snapshot_preview1" "fd_filestat_get" (func $fd_filestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $fd i32)
    (local.set $fd (i32.const 3))
    (loop $l
      (if (i32.eqz (call $fd_filestat_get (local.get $fd) (i32.const 64))) (then unreachable))
      (br_if $l (i32.lt_u (local.tee $fd (i32.add (local.get $fd) (i32.const 1))) (i32.const 100000))))
    (if (i32.eqz (call $fd_filestat_get (i32.const -1) (i32.const 64))) (then unreachable))
    (if (i32.eqz (call $fd_read (i32.const 0x7fffffff) (i32.const 0) (i32.const 1) (i32.const 8))) (then unreachable))))

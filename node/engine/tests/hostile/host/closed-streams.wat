;; Tries: closing the streams twice, then using them.
;; Ends: returns

(module
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $fd i32)
    (loop $l
      (if (call $fd_close (local.get $fd)) (then unreachable))
      (if (i32.eqz (call $fd_close (local.get $fd))) (then unreachable))
      (if (i32.eqz (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))) (then unreachable))
      (if (i32.eqz (call $fd_read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))) (then unreachable))
      (br_if $l (i32.lt_u (local.tee $fd (i32.add (local.get $fd) (i32.const 1))) (i32.const 3))))))

;; Tries: a million calls of the host.
;; Ends: returns
;; With: deadline=20000

(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $n i32)
    (local.set $n (i32.const 1000000))
    (loop $l
      (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 8)))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))))

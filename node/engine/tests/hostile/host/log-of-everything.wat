;; Tries: the same to stderr, again and again: gigabytes that may only be counted. The sum of one write wraps.
;; Ends: deadline

(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 256)
  (func (export "_start") (local $n i32)
    (loop $l
      (i32.store (i32.shl (local.get $n) (i32.const 3)) (i32.const 0))
      (i32.store offset=4 (i32.shl (local.get $n) (i32.const 3)) (i32.const 16777216))
      (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1024))))
    (loop $m (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1024) (i32.const 8192))) (br $m))))

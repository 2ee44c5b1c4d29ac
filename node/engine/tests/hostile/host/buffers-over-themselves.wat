;; Tries: reading into the list of buffers that is being read from.
;; Ends: returns
;; With: input=60000

(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $n i32)
    (loop $l
      (i32.store (i32.shl (local.get $n) (i32.const 3)) (i32.const 0))
      (i32.store offset=4 (i32.shl (local.get $n) (i32.const 3)) (i32.const 8192))
      (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1024))))
    (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1024) (i32.const 4)))))

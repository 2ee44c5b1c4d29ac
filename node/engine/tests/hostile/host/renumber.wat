;; Tries: moving descriptors over one another and far away, then using what is left.
;; Ends: returns | output

(module
  (import "wasi_snapshot_preview1" "fd_renumber" (func $fd_renumber (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $n i32)
    (loop $l
      (drop (call $fd_renumber (local.get $n) (i32.const 1)))
      (drop (call $fd_renumber (i32.const 1) (i32.const 2)))
      (drop (call $fd_renumber (i32.const 2) (i32.const -1)))
      (drop (call $fd_renumber (i32.const 0) (i32.const 0x7fffffff)))
      (drop (call $fd_renumber (i32.const 0) (i32.const 0)))
      (drop (call $fd_close (local.get $n)))
      (drop (call $fd_write (local.get $n) (i32.const 0) (i32.const 1) (i32.const 8)))
      (drop (call $fd_read (local.get $n) (i32.const 0) (i32.const 1) (i32.const 8)))
      (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000))))))

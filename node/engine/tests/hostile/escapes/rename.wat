;; Tries: moving files out of and into what it does not have.
;; Ends: returns

(module
  (import "wasi_snapshot_preview1" "path_rename" (func $path_rename (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_link" (func $path_link (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $path_unlink_file (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "../x")
  (func (export "_start") (local $fd i32)
    (loop $l
      (if (i32.eqz (call $path_rename (local.get $fd) (i32.const 1024) (i32.const 4) (local.get $fd) (i32.const 1024) (i32.const 4))) (then unreachable))
      (if (i32.eqz (call $path_link (local.get $fd) (i32.const 1) (i32.const 1024) (i32.const 4) (local.get $fd) (i32.const 1024) (i32.const 4))) (then unreachable))
      (if (i32.eqz (call $path_unlink_file (local.get $fd) (i32.const 1024) (i32.const 4))) (then unreachable))
      (br_if $l (i32.lt_u (local.tee $fd (i32.add (local.get $fd) (i32.const 1))) (i32.const 64))))))

;; Tries: paths that are no UTF-8, and one cut inside a character.
;; Ends: returns

(module
  (import "wasi_snapshot_preview1" "path_open" (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_create_directory" (func $path_create_directory (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "\ff\fe\c3\28\e2\82")
  (func (export "_start") (local $fd i32)
    (loop $l
      (if (i32.eqz (call $path_open (local.get $fd) (i32.const 1) (i32.const 1024) (i32.const 6) (i32.const 0) (i64.const -1) (i64.const -1) (i32.const 0) (i32.const 0))) (then unreachable))
      (if (i32.eqz (call $path_create_directory (local.get $fd) (i32.const 1024) (i32.const 6))) (then unreachable))
      (br_if $l (i32.lt_u (local.tee $fd (i32.add (local.get $fd) (i32.const 1))) (i32.const 64))))))

;; Tries: asking for every right on the streams, and for those of directories.
;; Ends: returns

(module
  (import "wasi_snapshot_preview1" "fd_fdstat_set_rights" (func $fd_fdstat_set_rights (param i32 i64 i64) (result i32)))
  (import "wasi_snapshot_preview1" "fd_readdir" (func $fd_readdir (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_dir_name" (func $fd_prestat_dir_name (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "")
  (func (export "_start") (local $fd i32)
    (drop (call $fd_fdstat_set_rights (i32.const 0) (i64.const -1) (i64.const -1)))
    (loop $l
      (if (i32.eqz (call $fd_readdir (local.get $fd) (i32.const 0) (i32.const 65536) (i64.const -1) (i32.const 0))) (then unreachable))
      (if (i32.eqz (call $fd_prestat_get (local.get $fd) (i32.const 0))) (then unreachable))
      (if (i32.eqz (call $fd_prestat_dir_name (local.get $fd) (i32.const 0) (i32.const 65536))) (then unreachable))
      (br_if $l (i32.lt_u (local.tee $fd (i32.add (local.get $fd) (i32.const 1))) (i32.const 64))))))

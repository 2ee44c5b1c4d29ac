;; Tries: leaving its private directory by links, renames and names.
;; Ends: returns
;; With: scratch=1048576 handles=16 deadline=10000

(module
  (import "wasi_snapshot_preview1" "path_open" (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink" (func $path_symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_create_directory" (func $path_create_directory (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_rename" (func $path_rename (param i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "a")
  (data (i32.const 1032) "../../..")
  (data (i32.const 1040) "lm")
  (data (i32.const 1056) "/../")
  (data (i32.const 1064) "l/etc/passwd")
  (data (i32.const 1080) "m/etc/passwd")
  (data (i32.const 1096) "../../etc/passwd")
  (func (export "_start")
    (drop (call $path_create_directory (i32.const 3) (i32.const 1024) (i32.const 1)))
    (drop (call $path_symlink (i32.const 1032) (i32.const 8) (i32.const 3) (i32.const 1040) (i32.const 1)))
    (drop (call $path_symlink (i32.const 1056) (i32.const 1) (i32.const 3) (i32.const 1041) (i32.const 1)))
    (drop (call $path_rename (i32.const 3) (i32.const 1024) (i32.const 1) (i32.const 3) (i32.const 1056) (i32.const 4)))
    (if (i32.eqz (call $path_open (i32.const 3) (i32.const 1) (i32.const 1064) (i32.const 12) (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 0))) (then unreachable))
    (if (i32.eqz (call $path_open (i32.const 3) (i32.const 1) (i32.const 1080) (i32.const 12) (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 0))) (then unreachable))
    (if (i32.eqz (call $path_open (i32.const 3) (i32.const 1) (i32.const 1096) (i32.const 16) (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 0))) (then unreachable))))

;; Tries: making folders in folders until nobody can name them.
;; Ends: returns | deadline
;; With: scratch=1048576 handles=16 deadline=10000

(module
  (import "wasi_snapshot_preview1" "path_create_directory" (func $path_create_directory (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open" (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "a")
  (func (export "_start") (local $fd i32) (local $n i32) (local $depth i32)
    (local.set $fd (i32.const 3))
    (loop $l
      (drop (call $path_create_directory (local.get $fd) (i32.const 1024) (i32.const 1)))
      (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000)))
      (if (i32.eqz (call $path_open (local.get $fd) (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 2) (i64.const 9728) (i64.const 9728) (i32.const 0) (i32.const 0)))
        (then (local.set $fd (i32.load (i32.const 0))) (local.set $n (i32.const 0)) (local.set $depth (i32.add (local.get $depth) (i32.const 1))) (br $l))))
    (if (i32.lt_u (local.get $depth) (i32.const 5)) (then unreachable))))

;; Tries: opening `a/../../b`, where a filter may look at the beginning only.
;; Ends: returns

(module
  (import "wasi_snapshot_preview1" "path_open" (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "a/../../b")
  (func (export "_start") (local $fd i32)
    (loop $l
      (if (i32.eqz (call $path_open (local.get $fd) (i32.const 1) (i32.const 1024) (i32.const 9) (i32.const 0) (i64.const -1) (i64.const -1) (i32.const 0) (i32.const 0))) (then unreachable))
      (br_if $l (i32.lt_u (local.tee $fd (i32.add (local.get $fd) (i32.const 1))) (i32.const 64))))))

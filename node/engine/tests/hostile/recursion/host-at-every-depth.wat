;; Tries: calling the host from every depth of a recursion, so that the host may run where no stack is left.
;; Ends: trap stack
;; With: deadline=5000

(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func $f (drop (call $random (i32.const 0) (i32.const 8))) (call $f))
  (func (export "_start") (call $f)))

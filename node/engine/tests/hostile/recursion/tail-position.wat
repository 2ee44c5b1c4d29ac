;; Tries: calls in tail position, which a compiler may turn into jumps, and so into a loop without an end.
;; Ends: trap stack | deadline

(module
  (func $a (param i32) (result i32) (call $b (i32.add (local.get 0) (i32.const 1))))
  (func $b (param i32) (result i32) (call $a (i32.xor (local.get 0) (i32.const 1))))
  (func (export "_start") (drop (call $a (i32.const 0)))))

;; Tries: a tree of calls, 200 deep, that is never finished: no loop, and never much stack.
;; Ends: deadline

(module
  (func $f (param i32)
    (if (local.get 0) (then
      (call $f (i32.sub (local.get 0) (i32.const 1)))
      (call $f (i32.sub (local.get 0) (i32.const 1))))))
  (func (export "_start") (call $f (i32.const 200))))

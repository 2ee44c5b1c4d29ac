;; Tries: a function of nearly a megabyte without a branch.
;; Ends: returns

(module
  (memory 1)
  (func (export "_start") (local $x i32)
    ;;* 100000
    (local.set $x (i32.xor (local.get $x) (i32.const {i})))
    (i32.store (i32.const 0) (local.get $x))))

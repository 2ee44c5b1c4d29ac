;; Tries: a segment whose place is computed from a global of its own, which constants may not.
;; Ends: refused "constant expression"

(module
  (global $at i32 (i32.const 65000))
  (memory 1)
  (data (i32.add (global.get $at) (i32.const 536)) "x")
  (func (export "_start")))

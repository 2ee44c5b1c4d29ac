;; Tries: calling a function as something it is not.
;; Ends: trap signature

(module
  (type $t (func (param i64) (result i64)))
  (table funcref (elem $f))
  (func $f)
  (func (export "_start") (drop (call_indirect (type $t) (i64.const 0) (i32.const 0)))))

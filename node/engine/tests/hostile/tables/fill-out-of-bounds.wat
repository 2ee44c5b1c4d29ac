;; Tries: filling one element more than there are.
;; Ends: trap table

(module
  (table $t 10 funcref)
  (func (export "_start") (table.fill $t (i32.const 1) (ref.null func) (i32.const 10))))

;; Tries: copying elements that are not there.
;; Ends: trap table

(module
  (table $t 10 funcref)
  (func (export "_start") (table.copy $t $t (i32.const 0) (i32.const 5) (i32.const 6))))

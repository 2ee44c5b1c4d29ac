;; Tries: writing beside a table.
;; Ends: trap table

(module
  (table $t 10 funcref)
  (func (export "_start") (table.set $t (i32.const 10) (ref.null func))))

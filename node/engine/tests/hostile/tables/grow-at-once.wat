;; Tries: growing a table to four billion elements.
;; Ends: returns

(module
  (table $t 0 funcref)
  (func (export "_start")
    (if (i32.ne (table.grow $t (ref.null func) (i32.const -1)) (i32.const -1)) (then unreachable))
    (if (table.size $t) (then unreachable))))

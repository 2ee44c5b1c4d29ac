;; Tries: filling a whole table for ever.
;; Ends: deadline

(module
  (table $t 1000 1000 funcref)
  (func (export "_start")
    (loop $l (table.fill $t (i32.const 0) (ref.null func) (i32.const 1000)) (br $l))))

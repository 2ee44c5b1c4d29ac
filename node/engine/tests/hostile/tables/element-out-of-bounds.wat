;; Tries: an element segment that ends after its table.
;; Ends: trap table

(module
  (table 2 funcref)
  (func $f)
  (elem (i32.const 1) $f $f)
  (func (export "_start")))

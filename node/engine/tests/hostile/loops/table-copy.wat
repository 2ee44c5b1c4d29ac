;; Tries: copying a table onto itself for ever.
;; Ends: deadline

(module
  (table $t 1000 1000 funcref)
  (func (export "_start")
    (loop $l (table.copy $t $t (i32.const 1) (i32.const 0) (i32.const 999)) (br $l))))

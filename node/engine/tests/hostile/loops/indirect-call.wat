;; Tries: a loop whose only work is a call through a table.
;; Ends: deadline

(module
  (type $t (func))
  (table funcref (elem $nothing))
  (func $nothing)
  (func (export "_start") (loop $l (call_indirect (type $t) (i32.const 0)) (br $l))))

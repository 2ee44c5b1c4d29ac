;; Tries: copying elements from a segment that was dropped.
;; Ends: trap table

(module
  (table $t 10 funcref)
  (func $f)
  (elem $e func $f $f)
  (func (export "_start")
    (elem.drop $e)
    (table.init $t $e (i32.const 0) (i32.const 0) (i32.const 1))))

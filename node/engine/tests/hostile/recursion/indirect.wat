;; Tries: a function that calls itself through a table for ever.
;; Ends: trap stack

(module
  (type $t (func))
  (table funcref (elem $f))
  (func $f (export "_start") (call_indirect (type $t) (i32.const 0))))

;; Tries: two functions that call one another for ever.
;; Ends: trap stack

(module
  (func $a (export "_start") (call $b))
  (func $b (call $a)))

;; Tries: a function that calls itself for ever.
;; Ends: trap stack

(module (func $f (export "_start") (call $f)))

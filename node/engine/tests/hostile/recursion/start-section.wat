;; Tries: recursion in the start section.
;; Ends: trap stack

(module
  (func $f (call $f))
  (start $f)
  (func (export "_start")))

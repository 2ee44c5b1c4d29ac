;; Tries: trapping in the start section.
;; Ends: trap unreachable

(module
  (func $f unreachable)
  (start $f)
  (func (export "_start")))

;; Tries: a segment of no bytes, far outside.
;; Ends: trap memory

(module
  (memory 1)
  (data (i32.const 65537) "")
  (func (export "_start")))

;; Tries: a segment for a memory that is not there.
;; Ends: refused "memory"

(module
  (data (i32.const 0) "a")
  (func (export "_start")))

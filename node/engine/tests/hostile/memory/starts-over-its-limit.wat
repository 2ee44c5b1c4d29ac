;; Tries: starting with more memory than its version may have.
;; Ends: refused "limits.memory"

(module (memory 257) (func (export "_start")))

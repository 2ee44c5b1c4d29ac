;; Tries: a memory that threads share.
;; Ends: refused "threads"

(module (memory 1 1 shared) (func (export "_start")))

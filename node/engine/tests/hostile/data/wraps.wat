;; Tries: a segment at the largest address there is, so that a sum wraps to the start.
;; Ends: trap memory

(module
  (memory 1)
  (data (i32.const -1) "abcdef")
  (func (export "_start")))

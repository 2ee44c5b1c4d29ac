;; Tries: waiting on an atomic for ever.
;; Ends: refused "threads"

(module
  (memory 1)
  (func (export "_start")
    (drop (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1)))))

;; Tries: filling the whole memory again and again: a bulk instruction passes no check of its own.
;; Ends: deadline

(module
  (memory 256)
  (func (export "_start")
    (loop $l (memory.fill (i32.const 0) (i32.const 1) (i32.const 16777216)) (br $l))))

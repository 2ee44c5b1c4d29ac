;; Tries: moving the whole memory by one byte again and again.
;; Ends: deadline

(module
  (memory 256)
  (func (export "_start")
    (loop $l (memory.copy (i32.const 1) (i32.const 0) (i32.const 16777215)) (br $l))))

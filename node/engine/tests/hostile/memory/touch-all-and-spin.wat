;; Tries: dirtying all its memory, then spinning until it is stopped.
;; Ends: deadline

(module
  (memory 256)
  (func (export "_start")
    (memory.fill (i32.const 0) (i32.const 0xaa) (i32.const 16777216))
    (loop $l (br $l))))

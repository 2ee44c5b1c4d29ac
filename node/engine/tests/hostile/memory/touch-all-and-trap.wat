;; Tries: dirtying all its memory and dying, so that nobody cleans up.
;; Ends: trap unreachable

(module
  (memory 256)
  (func (export "_start")
    (memory.fill (i32.const 0) (i32.const 0xaa) (i32.const 16777216))
    unreachable))

;; Tries: overwriting the same page with a bulk instruction.
;; Ends: trap memory

(module
  (memory 1)
  (func (export "_start") (memory.fill (i32.const 0xffff0000) (i32.const 1) (i32.const 65536))))

;; Tries: copying from what is not its own, of no length that is.
;; Ends: trap memory

(module
  (memory 1)
  (func (export "_start") (memory.copy (i32.const 0) (i32.const 65536) (i32.const 1))))

;; Tries: filling one byte more than it has.
;; Ends: trap memory

(module
  (memory 1)
  (func (export "_start") (memory.fill (i32.const 0) (i32.const 1) (i32.const 65537))))

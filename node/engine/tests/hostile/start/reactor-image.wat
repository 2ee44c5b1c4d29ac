;; Tries: an image of sixteen megabytes, none of it zero.
;; Ends: returns

(module
  (memory (export "memory") 256)
  (func (export "_initialize") (memory.fill (i32.const 0) (i32.const 0xaa) (i32.const 16777216)))
  (func (export "handle")
    (if (i32.ne (i32.load8_u (i32.const 16777215)) (i32.const 0xaa)) (then unreachable))
    (i32.store8 (i32.const 16777215) (i32.const 0))))

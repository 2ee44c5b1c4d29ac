;; Tries: taking all memory in `_initialize`, whose image every call would then carry.
;; Ends: memory

(module
  (memory (export "memory") 1)
  (func (export "_initialize")
    (loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    (memory.fill (i32.const 0) (i32.const 0xaa) (i32.shl (memory.size) (i32.const 16)))
    unreachable)
  (func (export "handle")))

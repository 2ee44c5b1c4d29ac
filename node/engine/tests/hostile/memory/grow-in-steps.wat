;; Tries: growing page by page until it is refused, then aborts, as an allocator does.
;; Ends: memory

(module
  (memory 1)
  (func (export "_start")
    (loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
    unreachable))

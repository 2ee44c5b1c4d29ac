;; Tries: growing by 2^32 - 1 pages, so that a sum wraps.
;; Ends: returns

(module
  (memory 1)
  (func (export "_start")
    (if (i32.ne (memory.grow (i32.const -1)) (i32.const -1)) (then unreachable))
    (if (i32.ne (memory.size) (i32.const 1)) (then unreachable))))

;; Tries: reading the last page of the address space, where the page by which guests are stopped is: it reads as zero.
;; Ends: returns | trap memory

(module
  (memory 1)
  (func (export "_start")
    (if (i32.load8_u (i32.const 0xffff0000)) (then unreachable))
    (if (i64.ne (i64.load (i32.const 0xffff0ff8)) (i64.const 0)) (then unreachable))))

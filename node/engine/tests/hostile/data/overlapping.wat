;; Tries: segments over one another; the last one counts.
;; Ends: returns

(module
  (memory 1)
  ;;* 1000
  (data (i32.const 8) "overwritten by those that follow")
  (data (i32.const 10) "!!")
  (func (export "_start")
    (if (i32.ne (i32.load (i32.const 8)) (i32.const 0x2121766f)) (then unreachable))))

;; Tries: a hundred thousand values on the operand stack at once.
;; Ends: returns

(module
  (memory 1)
  (func (export "_start")
    ;;* 100000
    (i32.load8_u (i32.const 0))
    ;;* 100000
    drop
  ))

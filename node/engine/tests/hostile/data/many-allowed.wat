;; Tries: as many segments as large programs have, each a byte.
;; Ends: returns

(module
  (memory 16)
  ;;* 50000
  (data (i32.const {i}) "x")
  (func (export "_start")
    (if (i32.ne (i32.load8_u (i32.const 49999)) (i32.const 120)) (then unreachable))))

;; Tries: a global whose value is computed by a hundred thousand additions.
;; Ends: returns | refused "constant"

(module
  (global $g i32
    (i32.const 0)
    ;;* 100000
    (i32.const 1) i32.add
  )
  (memory 1)
  (func (export "_start")
    (if (i32.ne (global.get $g) (i32.const 100000)) (then unreachable))))

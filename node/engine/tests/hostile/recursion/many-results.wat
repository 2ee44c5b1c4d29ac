;; Tries: recursion that returns hundreds of values.
;; Ends: trap stack

(module
  (func $f (result
    ;;* 900
    i64
    )
    (call $f))
  (func (export "_start")
    (call $f)
    ;;* 900
    drop
    ))

;; Tries: recursion with hundreds of arguments, which are passed on the stack.
;; Ends: trap stack

(module
  (func $f (param
    ;;* 900
    i64
    )
    ;;* 900
    (i64.add (local.get {i}) (i64.const 1))
    (call $f))
  (func (export "_start")
    ;;* 900
    (i64.const {i})
    (call $f)))

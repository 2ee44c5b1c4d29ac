;; Tries: frames of tens of kilobytes, so that one of them may step over the page that guards the stack.
;; Ends: trap stack

(module
  (memory 1)
  (func $f (param $n i32)
    ;;* 4000
    (local $x{i} i64)
    ;;* 4000
    (local.set $x{i} (i64.load offset={i} (local.get $n)))
    (call $f (i32.and (i32.add (local.get $n) (i32.const 1)) (i32.const 7)))
    ;;* 4000
    (i64.store offset={i} (local.get $n) (local.get $x{i}))
  )
  (func (export "_start") (call $f (i32.const 0))))

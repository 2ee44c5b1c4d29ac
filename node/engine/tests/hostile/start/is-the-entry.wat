;; Tries: being started twice: the start section is the command's own `_start`.
;; Ends: returns

(module
  (global $times (mut i32) (i32.const 0))
  (func $f (export "_start")
    (global.set $times (i32.add (global.get $times) (i32.const 1)))
    (if (i32.gt_u (global.get $times) (i32.const 2)) (then unreachable)))
  (start $f))

;; Tries: a loop that goes round by a br_table whose every target is its head.
;; Ends: deadline

(module
  (func (export "_start") (local $i i32)
    (loop $head
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_table $head $head $head $head $head (local.get $i)))))

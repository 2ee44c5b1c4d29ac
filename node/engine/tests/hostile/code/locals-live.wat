;; Tries: thousands of values alive across a loop: work for the register allocator.
;; Ends: returns

(module
  (memory 1)
  (func (export "_start") (local $n i32)
    ;;* 3000
    (local $x{i} i64)
    (loop $l
      ;;* 3000
      (local.set $x{i} (i64.add (local.get $x{i}) (i64.load offset={i} (i32.const 0))))
      (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 3))))
    ;;* 3000
    (i64.store offset={i} (i32.const 0) (local.get $x{i}))
  ))

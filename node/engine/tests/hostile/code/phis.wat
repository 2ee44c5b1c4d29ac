;; Tries: many locals that many branches may have changed: every join must merge all of them.
;; Ends: returns

(module
  (func (export "_start")
    ;;* 500
    (local $x{i} i32)
    ;;* 500
    (block (br_if 0 (local.get $x{i})) (local.set $x{i} (i32.const 1)))
    ;;* 500
    (loop (local.set $x{i} (i32.shr_u (local.get $x{i}) (i32.const 1))) (br_if 0 (local.get $x{i})))
  ))

;; Tries: a loop of vector instructions.
;; Ends: deadline

(module
  (func (export "_start") (local $v v128)
    (loop $l
      (local.set $v (i8x16.swizzle (i64x2.mul (local.get $v) (local.get $v)) (local.get $v)))
      (br_if $l (i32.eqz (v128.any_true (v128.andnot (local.get $v) (local.get $v))))))))

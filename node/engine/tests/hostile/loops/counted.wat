;; Tries: a counted loop of 2^63 turns without effect.
;; Ends: deadline

(module
  (func (export "_start") (local $i i64)
    (local.set $i (i64.const 0x7fffffffffffffff))
    (loop $l (br_if $l (i64.ne (local.tee $i (i64.sub (local.get $i) (i64.const 1))) (i64.const 0))))))

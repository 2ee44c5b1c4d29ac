;; Tries: dividing the smallest number by -1, for which the machine has no answer.
;; Ends: trap overflow

(module (func (export "_start") (drop (i64.div_s (i64.const 0x8000000000000000) (i64.const -1)))))

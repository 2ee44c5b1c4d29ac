;; Tries: making an integer of a number too large.
;; Ends: trap overflow

(module (func (export "_start") (drop (i32.trunc_f64_u (f64.const 4294967296)))))

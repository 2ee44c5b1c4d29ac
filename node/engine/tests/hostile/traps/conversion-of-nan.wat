;; Tries: making an integer of NaN.
;; Ends: trap conversion

(module (func (export "_start") (drop (i64.trunc_f64_s (f64.const nan:0x8000000000001)))))

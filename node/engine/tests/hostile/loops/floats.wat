;; Tries: a loop of slow float instructions, with a NaN in it.
;; Ends: deadline

(module
  (func (export "_start") (local $x f64)
    (local.set $x (f64.const nan:0x4000000000001))
    (loop $l
      (local.set $x (f64.div (f64.sqrt (local.get $x)) (f64.nearest (local.get $x))))
      (br $l))))

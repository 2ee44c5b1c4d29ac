;; Tries: carrying bits through memory and registers in the payloads of NaNs, loads and stores of which must keep them.
;; Ends: returns

(module
  (memory 1)
  (func (export "_start") (local $x f64) (local $y f32)
    (i64.store (i32.const 0) (i64.const 0xfff4deadbeef1234))
    (local.set $x (f64.load (i32.const 0)))
    (f64.store (i32.const 8) (local.get $x))
    (if (i64.ne (i64.load (i32.const 8)) (i64.const 0xfff4deadbeef1234)) (then unreachable))
    (i32.store (i32.const 16) (i32.const 0x7fa0dead))
    (local.set $y (f32.load (i32.const 16)))
    (if (i32.ne (i32.reinterpret_f32 (local.get $y)) (i32.const 0x7fa0dead)) (then unreachable))
    (if (f64.eq (local.get $x) (local.get $x)) (then unreachable))))

;; Tries: finding something of an earlier call in memory that it was given as new; then soils it for the next one.
;; Ends: returns

(module
  (memory 1)
  (func (export "_start") (local $at i32)
    (drop (memory.grow (i32.const 255)))
    (loop $l
      (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then unreachable))
      (local.set $at (i32.add (local.get $at) (i32.const 64)))
      (br_if $l (i32.lt_u (local.get $at) (i32.shl (memory.size) (i32.const 16)))))
    (memory.fill (i32.const 0) (i32.const 0xaa) (i32.shl (memory.size) (i32.const 16)))))

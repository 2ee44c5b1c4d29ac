;; Tries: a loop that stores to all of its memory for ever.
;; Ends: deadline

(module
  (memory 16)
  (func (export "_start") (local $at i32)
    (loop $l
      (i64.store (i32.and (local.get $at) (i32.const 0xffff8)) (i64.const -1))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br $l))))

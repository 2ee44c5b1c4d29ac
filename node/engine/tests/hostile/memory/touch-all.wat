;; Tries: writing to every page of all the memory it may have.
;; Ends: returns

(module
  (memory 1)
  (func (export "_start") (local $at i32)
    (drop (memory.grow (i32.const 255)))
    (loop $l
      (i32.store (local.get $at) (i32.const -1))
      (local.set $at (i32.add (local.get $at) (i32.const 4096)))
      (br_if $l (i32.lt_u (local.get $at) (i32.shl (memory.size) (i32.const 16)))))))

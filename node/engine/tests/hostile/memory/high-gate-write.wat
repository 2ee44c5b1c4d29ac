;; Tries: writing everywhere between four and eight GiB, a page at a time, where something may be mapped.
;; Ends: trap memory

(module
  (memory 1)
  (func (export "_start") (local $at i32)
    (loop $l
      (i32.store8 offset=0xffffffff (local.get $at) (i32.const 1))
      (local.set $at (i32.add (local.get $at) (i32.const 4096)))
      (br $l))))

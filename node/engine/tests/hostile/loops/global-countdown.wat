;; Tries: a loop that counts in a global, which every turn reads and writes.
;; Ends: deadline

(module
  (global $i (mut i64) (i64.const -1))
  (func (export "_start")
    (loop $l
      (global.set $i (i64.sub (global.get $i) (i64.const 1)))
      (br_if $l (i64.ne (global.get $i) (i64.const 0))))))

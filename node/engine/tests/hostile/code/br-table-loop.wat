;; Tries: spinning through a large jump table.
;; Ends: deadline

(module
  (func (export "_start") (local $i i32)
    (loop $l
      (block $b
        (local.set $i (i32.add (local.get $i) (i32.const 7919)))
        (br_table
          ;;* 5000
          $l $b
          (i32.rem_u (local.get $i) (i32.const 10001))))
      (br $l))))

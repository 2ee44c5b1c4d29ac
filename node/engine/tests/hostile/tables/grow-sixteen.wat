;; Tries: growing sixteen tables as far as each will.
;; Ends: returns | deadline

(module
  ;;* 16
  (table $t{i} 0 funcref)
  (func $f)
  (elem declare func $f)
  (func (export "_start")
    ;;* 16
    (loop $l (br_if $l (i32.ne (table.grow $t{i} (ref.func $f) (i32.const 64)) (i32.const -1))))
  ))

;; Tries: growing a table by one element until it is refused.
;; Ends: returns | deadline

(module
  (table $t 0 externref)
  (func (export "_start")
    (loop $l (br_if $l (i32.ne (table.grow $t (ref.null extern) (i32.const 1)) (i32.const -1))))))

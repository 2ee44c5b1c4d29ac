;; Tries: a jump table with more targets than any program has.
;; Ends: returns | refused "br_table"

(module
  (func (export "_start")
    (block
      (br_table
        ;;* 900000
        0
        (i32.const 0)))))

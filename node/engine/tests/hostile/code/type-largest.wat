;; Tries: a block that takes and gives as many values as can be.
;; Ends: returns

(module
  (type $t (func
    (param
      ;;* 900
      i64
    )
    (result
      ;;* 900
      i64
    )))
  (func (export "_start")
    ;;* 900
    (i64.const {i})
    (loop (type $t))
    (block (type $t))
    ;;* 900
    drop
  ))

;; Tries: as many elements as are allowed, half of them active.
;; Ends: returns

(module
  (table 100000 funcref)
  (func $f (export "_start"))
  (elem (i32.const 0) func
    ;;* 100000
    $f
  )
  (elem $passive func
    ;;* 100000
    $f
  ))

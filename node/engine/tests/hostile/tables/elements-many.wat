;; Tries: two million elements in one segment, copied at every instance.
;; Ends: refused "elements"

(module
  (table 1 funcref)
  (func $f (export "_start"))
  (elem $e func
    ;;* 2000000
    $f
  ))

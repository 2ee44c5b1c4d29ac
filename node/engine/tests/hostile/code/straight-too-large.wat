;; Tries: a function of more than a megabyte.
;; Ends: refused "bytes in one function"

(module
  (func (export "_start")
    ;;* 300000
    (drop (i32.const 100000))
  ))

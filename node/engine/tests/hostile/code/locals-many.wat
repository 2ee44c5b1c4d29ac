;; Tries: more locals than any program has, all of them alive at once.
;; Ends: refused "locals"

(module
  (func (export "_start")
    ;;* 20001
    (local i64)
  ))

;; Tries: more functions than the engine takes, all empty.
;; Ends: refused "functions"

(module
  (func (export "_start"))
  ;;* 200001
  (func)
  )

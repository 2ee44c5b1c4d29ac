;; Tries: more element segments than the engine takes.
;; Ends: refused "element segments"

(module
  (table 1 funcref)
  (func $f (export "_start"))
  ;;* 20000
  (elem func $f)
  )

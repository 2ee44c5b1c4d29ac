;; Tries: more types than the engine takes.
;; Ends: refused "types"

(module
  ;;* 20001
  (type (func (param i32)))
  (func (export "_start")))

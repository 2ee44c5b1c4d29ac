;; Tries: more globals than the engine takes.
;; Ends: refused "globals"

(module
  ;;* 20001
  (global (mut i64) (i64.const {i}))
  (func (export "_start")))

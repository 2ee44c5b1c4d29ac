;; Tries: more segments than the engine takes: each costs time at every instance.
;; Ends: refused "data segments"

(module
  (memory 1)
  ;;* 200001
  (data (i32.const 0) "")
  (func (export "_start")))

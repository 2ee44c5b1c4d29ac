;; Tries: conditions nested ten thousand deep.
;; Ends: returns | refused "nest"

(module
  (memory 1)
  (func (export "_start")
    ;;* 10000
    (i32.load (i32.const 0)) if
    ;;* 10000
    end
  ))

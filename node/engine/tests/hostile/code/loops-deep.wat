;; Tries: loops nested ten thousand deep.
;; Ends: returns | refused "nest"

(module
  (memory 1)
  (func (export "_start")
    ;;* 10000
    loop
    ;;* 10000
    end
  ))

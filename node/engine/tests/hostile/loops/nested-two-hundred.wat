;; Tries: two hundred loops in one another, the innermost without end.
;; Ends: deadline

(module
  (func (export "_start")
    ;;* 200
    loop
    br 0
    ;;* 200
    end
  ))

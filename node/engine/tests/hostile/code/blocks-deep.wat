;; Tries: blocks nested thirty thousand deep, so that whoever recurses over them runs out of stack.
;; Ends: returns | refused "nest" | refused "takes longer"

(module
  (func (export "_start")
    ;;* 30000
    block
    ;;* 30000
    end
  ))

;; Tries: twenty thousand functions, each of them small.
;; Ends: returns | refused "takes longer"

(module
  (memory 1)
  ;;* 20000
  (func (param i32) (result i32) (i32.add (i32.load (local.get 0)) (i32.mul (i32.const {i}) (i32.load offset={i} (local.get 0)))))
  (func (export "_start")))

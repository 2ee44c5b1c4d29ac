;; Tries: a type with more parameters than the specification's implementations allow.
;; Ends: refused "params"

(module
  (type (func (param
    ;;* 1001
    i32
  )))
  (func (export "_start")))

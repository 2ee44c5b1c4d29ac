;; Tries: a thousand tables.
;; Ends: refused "tables"

(module
  ;;* 1000
  (table 1 funcref)
  (func (export "_start")))

;; Tries: a table of four billion elements from the start.
;; Ends: refused "table"

(module (table 4294967295 funcref) (func (export "_start")))

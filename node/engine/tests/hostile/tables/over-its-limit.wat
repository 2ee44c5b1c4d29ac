;; Tries: beginning with a larger table than its version may have.
;; Ends: refused "over its limit of 100"
;; With: table=100

(module (table 101 funcref) (func (export "_start")))

;; Tries: a second memory, which has no reservation and no gate.
;; Ends: refused "memor"

(module (memory 1) (memory 1) (func (export "_start")))

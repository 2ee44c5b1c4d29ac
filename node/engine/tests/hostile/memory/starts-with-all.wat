;; Tries: starting with every page of a 32-bit memory.
;; Ends: refused "memory"

(module (memory 65536) (func (export "_start")))

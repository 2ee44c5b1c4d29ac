;; Tries: an entry that is no function.
;; Ends: refused "_start"

(module (memory (export "_start") 1))

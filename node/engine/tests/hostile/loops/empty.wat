;; Tries: an empty loop for ever.
;; Ends: deadline

(module (func (export "_start") (loop $l (br $l))))

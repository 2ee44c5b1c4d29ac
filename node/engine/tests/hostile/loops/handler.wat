;; Tries: a loop in the handler of a reactor.
;; Ends: deadline

(module
  (memory (export "memory") 1)
  (func (export "_initialize"))
  (func (export "handle") (loop $l (br $l))))

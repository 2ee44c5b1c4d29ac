;; Tries: a loop in a reactor's `_initialize`, which may run at publish to take an image.
;; Ends: deadline

(module
  (memory (export "memory") 1)
  (func (export "_initialize") (loop $l (br $l)))
  (func (export "handle")))

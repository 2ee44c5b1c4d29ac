;; Tries: trapping in a reactor's `_initialize`.
;; Ends: trap unreachable

(module
  (func (export "_initialize") unreachable)
  (func (export "handle")))

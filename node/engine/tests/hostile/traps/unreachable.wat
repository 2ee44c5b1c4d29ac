;; Tries: what panics and aborts become.
;; Ends: trap unreachable

(module (func (export "_start") unreachable))

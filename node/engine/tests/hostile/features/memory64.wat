;; Tries: a memory with 64-bit addresses, outside every reservation.
;; Ends: refused "wasm32"

(module (memory i64 1) (func (export "_start")))

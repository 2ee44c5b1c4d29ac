;; Tries: a loop that calls an empty function, which may be inlined and with it what is checked at its start.
;; Ends: deadline

(module
  (func $nothing)
  (func (export "_start") (loop $l (call $nothing) (br $l))))

;; Tries: growing the memory by nothing for ever: each is a call of the host that changes nothing.
;; Ends: deadline

(module
  (memory 1)
  (func (export "_start") (loop $l (drop (memory.grow (i32.const 0))) (br $l))))

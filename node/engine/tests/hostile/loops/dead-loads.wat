;; Tries: a loop that loads the same word again and again and drops it, so that the optimiser may strip all loads.
;; Ends: deadline

(module
  (memory 1)
  (func (export "_start") (loop $l (drop (i32.load (i32.const 0))) (br $l))))

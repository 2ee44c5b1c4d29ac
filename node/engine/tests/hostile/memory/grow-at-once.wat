;; Tries: growing to four GiB at once, then uses what it did not get.
;; Ends: memory

(module
  (memory 1)
  (func (export "_start")
    (drop (memory.grow (i32.const 65535)))
    (i32.store (i32.const 0x7fff0000) (i32.const 1))))

;; Tries: asking for all memory again and again, refused each time.
;; Ends: deadline

(module
  (memory 1)
  (func (export "_start") (loop $l (drop (memory.grow (i32.const 65535))) (br $l))))

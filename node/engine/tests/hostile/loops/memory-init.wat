;; Tries: copying a passive segment for ever.
;; Ends: deadline

(module
  (memory 1)
  (data $d "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
  (func (export "_start")
    (loop $l (memory.init $d (i32.const 0) (i32.const 0) (i32.const 64)) (br $l))))

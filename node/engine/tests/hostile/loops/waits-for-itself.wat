;; Tries: waiting until a word of its memory changes, which nobody will do.
;; Ends: deadline

(module
  (memory 1)
  (func (export "_start") (loop $l (br_if $l (i32.eqz (i32.load (i32.const 0)))))))

;; Tries: taking all memory in the start section, then failing.
;; Ends: memory

(module
  (memory 1)
  (func $f
    (loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    unreachable)
  (start $f)
  (func (export "_start")))

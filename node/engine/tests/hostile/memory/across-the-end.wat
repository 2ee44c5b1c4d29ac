;; Tries: a load that begins inside its memory and ends outside.
;; Ends: trap memory

(module
  (memory 1)
  (func (export "_start") (drop (i64.load (i32.const 65529)))))

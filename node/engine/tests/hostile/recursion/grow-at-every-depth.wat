;; Tries: growing memory and tables from every depth of a recursion.
;; Ends: trap stack
;; With: deadline=5000

(module
  (memory 1)
  (table $t 0 externref)
  (func $f
    (drop (memory.grow (i32.const 0)))
    (drop (table.grow $t (ref.null extern) (i32.const 0)))
    (memory.fill (i32.const 0) (i32.const 0) (i32.const 64))
    (call $f))
  (func (export "_start") (call $f)))

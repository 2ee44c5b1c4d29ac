;; Tries: copying from a segment that was dropped.
;; Ends: trap memory

(module
  (memory 1)
  (data $d "abc")
  (func (export "_start")
    (data.drop $d)
    (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1))))

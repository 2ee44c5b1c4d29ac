;; Tries: writing to the page by which guests are stopped.
;; Ends: trap memory

(module
  (memory 1)
  (func (export "_start") (i32.store (i32.const 0xffff0000) (i32.const 1))))

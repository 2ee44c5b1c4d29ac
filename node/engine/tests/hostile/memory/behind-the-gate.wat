;; Tries: reading behind the page by which guests are stopped.
;; Ends: trap memory

(module
  (memory 1)
  (func (export "_start") (drop (i32.load8_u (i32.const 0xffff8000)))))

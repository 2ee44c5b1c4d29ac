;; Tries: a segment that ends one byte after the memory.
;; Ends: trap memory

(module
  (memory 1)
  (data (i32.const 65535) "ab")
  (func (export "_start")))

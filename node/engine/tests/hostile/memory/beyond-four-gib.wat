;; Tries: the largest address with the largest offset, eight GiB from the start.
;; Ends: trap memory

(module
  (memory 1)
  (func (export "_start") (drop (v128.load offset=0xffffffff (i32.const -1)))))

;; Tries: a good segment, then one that does not fit: what the first wrote must not be anybody's.
;; Ends: trap memory

(module
  (memory 1)
  (data (i32.const 0) "secret of a call that never was")
  (data (i32.const 65530) "0123456789")
  (func (export "_start")))

;; Tries: objects that a collector of the host would own.
;; Ends: refused "garbage-collected"

(module
  (type $s (struct (field i64)))
  (func (export "_start") (loop $l (drop (struct.new $s (i64.const 1))) (br $l))))

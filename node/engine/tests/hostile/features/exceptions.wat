;; Tries: exceptions, each of which the host would keep.
;; Ends: refused "exceptions"

(module
  (tag $t)
  (func (export "_start") (loop $l (block $b (try_table (catch $t $b) (throw $t))) (br $l))))

;; Tries: an entry that wants values nobody gives.
;; Ends: refused "_start"

(module (func (export "_start") (param i32 i64) (result v128) unreachable))

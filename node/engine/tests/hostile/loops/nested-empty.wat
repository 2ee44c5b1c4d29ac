;; Tries: two empty loops, one in the other: a check that is hoisted out of the inner one never comes again.
;; Ends: deadline

(module (memory 1) (func (export "_start") (loop $a (loop $b (br $b)) (br $a))))

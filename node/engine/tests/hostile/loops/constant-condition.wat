;; Tries: a loop whose condition is a constant that the optimiser can fold.
;; Ends: deadline

(module (func (export "_start") (loop $l (br_if $l (i32.const 1)))))

;; Tries: asking the host for its memory.
;; Ends: refused "imports what is not there"

(module (import "env" "memory" (memory 1)) (func (export "_start")))

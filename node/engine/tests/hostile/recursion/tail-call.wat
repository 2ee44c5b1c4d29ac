;; Tries: tail calls for ever, by the proposal of that name.
;; Ends: refused "tail call"

(module
  (func $a (return_call $a))
  (func (export "_start") (call $a)))

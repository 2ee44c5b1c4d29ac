;; Tries: a module whose only code is its start section.
;; Ends: refused "_start"

(module (func $f (loop $l (br $l))) (start $f))

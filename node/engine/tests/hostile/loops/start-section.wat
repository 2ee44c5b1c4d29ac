;; Tries: a loop in the start section, before there is an instance to stop.
;; Ends: deadline

(module
  (func $spin (loop $l (br $l)))
  (start $spin)
  (func (export "_start")))

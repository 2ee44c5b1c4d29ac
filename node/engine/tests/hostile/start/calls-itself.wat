;; Tries: a start section that calls the entry, which spins.
;; Ends: deadline

(module
  (func $main (export "_start") (loop $l (br $l)))
  (func $f (call $main))
  (start $f))

;; Tries: more exports than the engine takes.
;; Ends: refused "exports"

(module
  ;;* 20001
  (export "n{i}" (func $f))
  (func $f (export "_start")))

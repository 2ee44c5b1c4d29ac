;; Tries: importing a host function as something it is not.
;; Ends: refused "signature"

(module
  (import "wasi_snapshot_preview1" "proc_exit" (func (param i64 i64 i64 i64) (result v128)))
  (func (export "_start")))

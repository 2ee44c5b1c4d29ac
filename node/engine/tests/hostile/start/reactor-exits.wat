;; Tries: ending the process in a reactor's `_initialize`.
;; Ends: exit 5

(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_initialize") (call $exit (i32.const 5)))
  (func (export "handle")))

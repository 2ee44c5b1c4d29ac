;; Tries: ending the process before it began.
;; Ends: exit 3

(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func $f (call $exit (i32.const 3)))
  (start $f)
  (func (export "_start")))

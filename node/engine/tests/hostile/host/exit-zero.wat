;; Tries: ending well in the middle of things.
;; Ends: returns

(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (call $proc_exit (i32.const 0))
    (loop $l (br $l))))

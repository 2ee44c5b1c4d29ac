;; Tries: one import, wanted ten thousand times: each is made anew for every instance.
;; Ends: refused "imports"

(module
  ;;* 10000
  (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
  (func (export "_start")))

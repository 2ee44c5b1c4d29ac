;; Tries: asking the host for a global with the name of a function it has.
;; Ends: refused "a global"

(module (import "wasi_snapshot_preview1" "fd_write" (global i32)) (func (export "_start")))

;; Tries: raising every signal a byte can name, from the last to the first.
;; Ends: exit | returns

(module
  (import "wasi_snapshot_preview1" "proc_raise" (func $proc_raise (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $n i32)
    (local.set $n (i32.const 255))
    (loop $l
      (drop (call $proc_raise (local.get $n)))
      (br_if $l (i32.ge_s (local.tee $n (i32.sub (local.get $n) (i32.const 1))) (i32.const 0))))))

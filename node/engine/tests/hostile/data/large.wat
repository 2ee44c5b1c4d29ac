;; Tries: one segment of sixteen megabytes less a page.
;; Ends: returns
;; With: deadline=5000

(module
  (memory 256)
  (data (i32.const 65536)
    ;;* 261120
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n"
  )
  (func (export "_start")
    (if (i32.ne (i32.load8_u (i32.const 16777215)) (i32.const 10)) (then unreachable))))

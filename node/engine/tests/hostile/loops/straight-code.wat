;; Tries: a loop whose one turn is hundreds of kilobytes of straight code.
;; Ends: deadline

(module
  (memory 1)
  (func (export "_start")
    (loop $l
      ;;* 20000
      (i32.store (i32.const {i}) (i32.add (i32.load (i32.const {i})) (i32.const 1)))
      (br $l))))

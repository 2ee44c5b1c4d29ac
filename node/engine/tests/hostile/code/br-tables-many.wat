;; Tries: hundreds of jump tables of thousands of targets, each to many blocks.
;; Ends: returns

(module
  (func (export "_start") (local $x i32)
    ;;* 331
    block
    ;;* 300
    (br_table 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 (i32.const {i})) end
    ;;* 31
    end
  ))

;; Tries: a state machine of two loops that jump to one another through a block.
;; Ends: deadline

(module
  (func (export "_start") (local $state i32)
    (loop $outer
      (block $b
        (block $a (br_table $a $b (local.get $state)))
        (local.set $state (i32.const 1))
        (br $outer))
      (local.set $state (i32.const 0))
      (br $outer))))

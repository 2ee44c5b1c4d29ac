;; Tries: calling every index there can be through a table, with the wrong type.
;; Ends: trap table

(module
  (type $t (func (param i32 i64 f32)))
  (table 1 funcref)
  (func (export "_start") (call_indirect (type $t) (i32.const 1) (i64.const 1) (f32.const 1) (i32.const -1))))

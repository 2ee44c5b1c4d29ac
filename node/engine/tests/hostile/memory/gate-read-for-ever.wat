;; Tries: reading where the gate may be in a loop, so that the stop looks like its own fault.
;; Ends: deadline | trap memory

(module
  (memory 1)
  (func (export "_start")
    (loop $l (br_if $l (i32.eqz (i32.load (i32.const 0xffff0000)))))))

;; 16 MiB of memory, all of it data; a call reads one byte of 16 pages and writes one of 4.
(module
  (import "wasi_snapshot_preview1" "fd_read" (func (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
  (memory (export "memory") 256)
  (data (i32.const 0) "DATA")
  (func (export "_start") (local $at i32) (local $sum i32)
    (loop $more
      (local.set $sum (i32.add (local.get $sum) (i32.load8_u (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 0x100000)))
      (br_if $more (i32.lt_u (local.get $at) (i32.const 0x1000000))))
    (i32.store8 (i32.const 0x000800) (local.get $sum))
    (i32.store8 (i32.const 0x400800) (local.get $sum))
    (i32.store8 (i32.const 0x800800) (local.get $sum))
    (i32.store8 (i32.const 0xC00800) (local.get $sum))))

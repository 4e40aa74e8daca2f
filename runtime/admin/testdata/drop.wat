;; A guest that takes every record and puts nothing out: wat2wasm drop.wat -o drop.wasm
(module
  (memory (export "memory") 128)
  (func (export "_initialize"))
  (func (export "millstream_v1_alloc") (param $area i32) (param $size i32) (result i32)
    (if (result i32) (i32.gt_u (local.get $size) (i32.const 2097152))
      (then (i32.const 0))
      (else (i32.add (i32.const 65536) (i32.mul (local.get $area) (i32.const 2097152))))))
  (func (export "millstream_v1_setup") (param i32 i32) (result i64) (i64.const 0))
  (func (export "millstream_v1_process") (param $batch i32) (param i32) (result i64)
    (i64.shl (i64.extend_i32_u (i32.load (local.get $batch))) (i64.const 32))))

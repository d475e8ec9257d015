;; A component that is no function: it exports something to compute with, and no handler.
;; The tests deploy it to see it refused, with its exports named.
(component
  (core module $code
    (func (export "double") (param i32) (result i32)
      (i32.shl (local.get 0) (i32.const 1))))
  (core instance $code (instantiate $code))
  (func $double (param "number" u32) (result u32)
    (canon lift (core func $code "double")))
  (instance $arithmetic (export "double" (func $double)))
  (export "acme:library/arithmetic@1.0.0" (instance $arithmetic)))

;; A function that wants what nobody provides: a handler, and an import of an interface of its own.
;; The tests deploy it to see it refused, with the import named.
(component
  (import "acme:widgets/thing@1.0.0" (instance $thing
    (export "turn" (func (param "times" u32)))))
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $incoming-request))
  (alias export $types "response-outparam" (type $response-outparam))

  (core func $turn (canon lower (func $thing "turn")))
  (core module $code
    (import "thing" "turn" (func $turn (param i32)))
    (func (export "handle") (param i32 i32)
      (call $turn (local.get 0))))
  (core instance $code (instantiate $code
    (with "thing" (instance (export "turn" (func $turn))))))

  (func $handle (param "request" (own $incoming-request)) (param "response-out" (own $response-outparam))
    (canon lift (core func $code "handle")))
  (component $handler
    (import "incoming-request" (type $incoming-request (sub resource)))
    (import "response-outparam" (type $response-outparam (sub resource)))
    (import "handle" (func $handle
      (param "request" (own $incoming-request)) (param "response-out" (own $response-outparam))))
    (export "handle" (func $handle)))
  (instance $handler (instantiate $handler
    (with "incoming-request" (type $incoming-request))
    (with "response-outparam" (type $response-outparam))
    (with "handle" (func $handle))))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))

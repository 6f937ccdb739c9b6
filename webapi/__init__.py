"""HTTP/1.1 APIs on the loop of the mesh: a hardened server, a router, validation and OpenAPI from one definition, keys.

Knows nothing of users or messages; usable for any node. The way of a request:

    `connection.Connection`   bytes to a `Head` (limits, deadlines, no ambiguous framing), then to a `Request`
    `api.Api.admit`           on the hub, before the body is read: route, method, credentials, rate
    `api.Api.run`             in a pooled greenlet: signature, body and query validated, `Idempotency-Key`, the handler
    `connection.Connection`   one answer per request, in order
"""

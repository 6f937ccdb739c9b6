"""The OpenAPI 3.1 document, made of the routes' own signatures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from webapi.exchange import Answer, ErrorBody
from webapi.idempotency import MAX_KEY
from webapi.routes import Route

REF = "#/components/schemas/{name}"
ERRORS = {
    400: "The request is malformed; `details.field` names what", 401: "No key, a wrong one, or a wrong signature",
    403: "Not allowed: the key's scopes, or the rules of the system", 404: "There is no such thing",
    409: "It contradicts what is there", 413: "The body is too large", 415: "The body is no JSON",
    422: "What is asked for is not possible", 429: "Too much; see Retry-After", 500: "Our mistake",
    503: "Not now; the outcome may be unknown. Repeat it with the same Idempotency-Key",
}  # fmt: skip
KEY_PARAMETER = {
    "name": "Idempotency-Key", "in": "header", "required": False,
    "description": "Repeating a request with its key and body does it once and gives the same answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": "^[!-~]+$"},
}  # fmt: skip


def document(title: str, version: str, description: str, routes: Iterable[Route]) -> dict[str, Any]:
    """The document."""
    routes = list(routes)
    types = list(_types(routes))
    schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    refs = dict(zip(map(repr, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, refs)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": description},
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {
                f"Error{status}": {"description": text, "content": _json(refs[repr(ErrorBody)])}
                for status, text in ERRORS.items()
            },
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key; or sign: see the docs."}
            },
        },
    }  # fmt: skip


def _types(routes: Iterable[Route]) -> Iterator[Any]:
    yield ErrorBody
    for route in routes:
        yield from (route.types[name] for name in route.names)
        for each in (route.query, route.body):
            if each is not None:
                yield each
        if _is_json(route.answer):
            yield route.answer


def _is_json(hint: Any) -> bool:
    return hint is not None and hint is not type(None) and hint is not Answer


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _operation(route: Route, refs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    declared = route.declared
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": refs[repr(route.types[name])]} for name in route.names
    ]
    if route.query is not None:
        parameters += _query(route.query)
    if declared.mutating:
        parameters.append(KEY_PARAMETER)
    content = _json(refs[repr(route.answer)]) if _is_json(route.answer) else None
    success: dict[str, Any] = {"description": "Done"}
    if content is not None:
        success["content"] = content
    elif route.answer is Answer:
        success["content"] = {"*/*": {}}
    statuses = {400, 413, *declared.errors}
    if declared.scope:
        statuses |= {401, 403, 404, 429, 500, 503}
    if route.body is not None:
        statuses |= {415}
    if declared.mutating:
        statuses |= {409}
    operation: dict[str, Any] = {
        "operationId": f"{declared.tag}_{route.handler.__name__.strip('_')}",
        "summary": declared.summary,
        "tags": [declared.tag],
        "parameters": parameters,
        "responses": {
            str(declared.status): success,
            **{str(s): {"$ref": f"#/components/responses/Error{s}"} for s in sorted(statuses)},
        },
        "security": [{"key": []}] if declared.scope else [],
    }  # fmt: skip
    doc = [route.doc] if route.doc else []
    if declared.scope:
        doc.append(f"Scope: `{declared.scope}`.")
    operation["description"] = "\n\n".join(doc)
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": _json(refs[repr(route.body)])}
    return operation


def _query(struct: type[msgspec.Struct]) -> Iterator[dict[str, Any]]:
    (_,), components = msgspec.json.schema_components([struct], ref_template=REF)
    properties = components[struct.__name__]["properties"]
    required = components[struct.__name__].get("required", ())
    for field in msgspec.structs.fields(struct):
        name = field.encode_name
        schema = dict(properties[name])
        description = schema.pop("description", "")
        yield {"name": name, "in": "query", "required": name in required, "schema": schema, "description": description}

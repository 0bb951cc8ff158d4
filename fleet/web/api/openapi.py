"""The API as an OpenAPI 3.1 document, made from the same table of routes that answers.

Who reads it learns what may be asked, and nothing of this fleet: it is open to everybody.
"""

import re
from collections.abc import Callable, Sequence
from importlib.metadata import version

from fleet.web.api.asked import Asked
from fleet.web.api.routes import Document, Json, Members, One, Page, Route
from fleet.web.api.shapes import SHAPES
from fleet.web.api.terms import REVOCATION_REASON, TERMS, TEXT, Schema, list_of, maybe, record, ref
from fleet.web.api.wire_routes import WIRE_SCHEMAS, wire_paths
from fleet.web.gate import PROBLEM_TYPE

_PACKAGE = "fleet-provisioning"
_IN_PATH = re.compile(r"\{([a-z_]+)\}")
_SPECIAL = {("revocations", "reason"): REVOCATION_REASON}
"""Where a name means something else than everywhere."""
_KEY_PARAMETER: Members = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {**TEXT, "maxLength": 130},
    "description": "A request that is sent again under its key acts once, for a day.",
}
_ABOUT = (
    "What operators' programs may ask, and what devices and stations ask over HTTPS. Operators come with "
    "their client certificate, and each route names the role that it needs: viewer, operator or security. "
    "An unknown member of a query or body is refused; clients pass over members of answers that they do "
    "not know."
)


def routes(table: Callable[[], Sequence[Route]]) -> tuple[Route, ...]:
    """Return the row that serves the document of a whole table, its own row included."""

    async def serve(asked: Asked) -> Members:
        asked.query()
        return document(table())

    return (
        Route(
            method="GET",
            path="openapi.json",
            role=None,
            handler=serve,
            about="This document.",
            answer=One("OpenApi"),
        ),
    )


def document(routes: Sequence[Route]) -> Members:
    """Return the document: OpenAPI 3.1, of these operators' routes and the devices'."""
    paths: dict[str, dict[str, Json]] = {}
    for route in routes:
        paths.setdefault(f"/api/v1/{route.path}", {})[route.method.lower()] = _operation(route)
    for path, operations in wire_paths().items():
        paths.setdefault(path, {}).update(operations)
    return {
        "openapi": "3.1.0",
        "info": {"title": "fleet", "version": version(_PACKAGE), "description": _ABOUT},
        "tags": [{"name": tag} for tag in dict.fromkeys([*map(_tag, routes), "devices' own"])],
        "paths": paths,
        "components": {
            "schemas": {**SHAPES, **WIRE_SCHEMAS},
            "securitySchemes": {
                "operator": {"type": "mutualTLS", "description": "An operator's certificate."}
            },
        },
    }


def _operation(route: Route) -> Members:
    # RFC 9110 9.3.1: a GET has no body; what a POST is told stands in its body, or is a file.
    found: dict[str, Json] = {
        "operationId": _operation_id(route),
        "summary": route.about,
        "tags": [_tag(route)],
        "parameters": _parameters(route),
        "responses": {"200": _answered(route), "default": _refused()},
    }
    if route.role is not None:
        found |= {"x-role": route.role.value, "security": [{"operator": []}]}
    if route.method == "POST":
        found["requestBody"] = _body(route)
    return found


def _operation_id(route: Route) -> str:
    words = _IN_PATH.sub(r"by_\1", route.path).replace("/", "_").replace(".", "_")
    return f"{route.method.lower()}_{words}"


def _tag(route: Route) -> str:
    return route.path.partition("/")[0]


def _parameters(route: Route) -> list[Json]:
    found: list[Json] = [
        {"name": name, "in": "path", "required": True, "schema": TERMS[name]}
        for name in _IN_PATH.findall(route.path)
    ]
    found += [
        {"name": name, "in": "query", "required": name in route.needs, "schema": TERMS[name]}
        for name in route.parameters
    ]
    return [*found, _KEY_PARAMETER] if route.method == "POST" else found


def _body(route: Route) -> Members:
    if route.file:
        return {"required": True, "content": {route.file: {"schema": TEXT}}}
    members: Schema = {name: _SPECIAL.get((route.path, name), TERMS[name]) for name in route.body}
    schema: Schema = {
        "type": "object",
        "properties": members,
        "required": sorted(route.needs),
        "additionalProperties": False,
    }
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _answered(route: Route) -> Members:
    match route.answer:
        case One(shape):
            content: Members = {"application/json": {"schema": ref(shape)}}
        case Page(shape):
            page = record({"items": list_of(ref(shape)), "next": maybe(TEXT)})
            content = {"application/json": {"schema": page}}
        case Document(media_type):
            content = {media_type: {"schema": TEXT}}
    return {"description": "Done.", "content": content}


def _refused() -> Members:
    return {"description": "Not done.", "content": {PROBLEM_TYPE: {"schema": ref("Problem")}}}

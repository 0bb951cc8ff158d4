"""Operators' routes of backends: programs that read what devices tell, with keys of their own."""

from device_agent.wire.fields import Fields, time_text
from fleet.model import Role
from fleet.ra.people import backends
from fleet.ra.people.backends import BackendOrder, NewBackend
from fleet.store.backends import BackendRecord
from fleet.web.api.asked import Asked, page_of
from fleet.web.api.routes import Members, One, Page, Route, listed, time_or_none

_LONGEST_NAME = 32
_LONGEST_CSR = 16 * 1024
_LONGEST_REASON = 200
_LONGEST_FILTER = 256


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="GET",
            path="services",
            role=Role.VIEWER,
            handler=_list,
            about="Backends, by name; revoked ones too.",
            answer=Page("Service"),
        ),
        Route(
            method="POST",
            path="services",
            role=Role.SECURITY,
            handler=_add,
            about="Add a backend with a scope of topics, and certify the key that it made.",
            body=("name", "reads", "writes", "csr"),
            needs=frozenset({"name", "csr"}),
            answer=One("NewService"),
        ),
        Route(
            method="POST",
            path="services/{name}/renew",
            role=Role.SECURITY,
            handler=_renew,
            about="Certify the next key of a backend; the certificate before goes on until its end.",
            body=("csr",),
            needs=frozenset({"csr"}),
            answer=One("NewService"),
        ),
        Route(
            method="POST",
            path="services/{name}/revoke",
            role=Role.SECURITY,
            handler=_revoke,
            about="Take a backend's access back for good, and end its live sessions.",
            body=("reason",),
            answer=One("RevokedService"),
        ),
    )


async def _list(asked: Asked) -> Members:
    found = await backends.list_backends(asked.context)
    page, following = page_of(found, asked.query(), key=lambda each: each.backend.name)
    items = [
        {**_service(each.backend), "serial": each.serial or None, "not_after": time_or_none(each.not_after)}
        for each in page
    ]
    return listed(items, following)


async def _add(asked: Asked) -> Members:
    body = asked.body()
    order = BackendOrder(
        name=body.text("name", longest=_LONGEST_NAME),
        reads=_filters(body, "reads"),
        writes=_filters(body, "writes"),
        csr=body.any_text("csr", longest=_LONGEST_CSR),
        actor=asked.actor,
    )
    return _made(await backends.add_backend(asked.context, order))


async def _renew(asked: Asked) -> Members:
    csr = asked.body().any_text("csr", longest=_LONGEST_CSR)
    name = asked.request.match_info["name"]
    return _made(await backends.renew_backend(asked.context, name, csr_pem=csr, actor=asked.actor))


async def _revoke(asked: Asked) -> Members:
    body, name = asked.body(), asked.request.match_info["name"]
    reason = body.text("reason", longest=_LONGEST_REASON) if "reason" in body else ""
    revoked = await backends.revoke_backend(asked.context, name, actor=asked.actor, reason=reason)
    return {"service": name, "revoked": list(revoked)}


def _filters(body: Fields, name: str) -> tuple[str, ...]:
    return tuple(body.texts(name, longest=_LONGEST_FILTER)) if name in body else ()


def _made(made: NewBackend) -> Members:
    issued = made.own.issued
    return {
        **_service(made.backend),
        "serial": issued.serial,
        "not_after": time_text(issued.not_after),
        "certificate": made.own.certificate_pem,
    }


def _service(backend: BackendRecord) -> Members:
    return {
        "service": backend.name,
        "reads": list(backend.reads),
        "writes": list(backend.writes),
        "added_at": time_text(backend.added_at),
        "revoked_at": time_or_none(backend.revoked_at),
    }

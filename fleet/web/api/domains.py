"""Operators' routes of security domains."""

from fleet.core.goodkey import KeyType
from fleet.errors import NotFoundError
from fleet.model import Role
from fleet.ra.authority import domains, new_domain
from fleet.ra.authority.domains import DomainView
from fleet.web.api.asked import Asked, page_of
from fleet.web.api.routes import Members, One, Page, Route, listed


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="GET",
            path="domains",
            role=Role.VIEWER,
            handler=_list,
            about="Security domains, by name.",
            answer=Page("Domain"),
        ),
        Route(
            method="GET",
            path="domains/{domain}",
            role=Role.VIEWER,
            handler=_show,
            about="One security domain, with what devices are given to trust.",
            answer=One("DomainDetails"),
        ),
        Route(
            method="POST",
            path="domains",
            role=Role.SECURITY,
            handler=_add,
            about="Take in a domain whose root was made in the home, as fleet domain add does first.",
            body=("domain", "ca_key"),
            needs=frozenset({"domain"}),
            answer=One("DomainDetails"),
        ),
    )


async def _list(asked: Asked) -> Members:
    found, following = page_of(
        await domains.list_domains(asked.context), asked.query(), key=lambda view: view.name
    )
    return listed([_summary(view) for view in found], following)


async def _show(asked: Asked) -> Members:
    asked.query()
    return await _details(asked, asked.request.match_info["domain"])


async def _add(asked: Asked) -> Members:
    body = asked.body()
    name = body.text("domain", longest=32)
    key_type = body.word("ca_key", of=KeyType) if "ca_key" in body else KeyType.P256
    await new_domain.add_domain(asked.context, name, actor=asked.actor, ca_key=key_type)
    return await _details(asked, name)


async def _details(asked: Asked, name: str) -> Members:
    for view in await domains.list_domains(asked.context):
        if view.name == name:
            return {**_summary(view), "trust": asked.context.authority.trust_pem(name)}
    raise NotFoundError(f"there is no domain {name!r}", hint="fleet domain list")


def _summary(view: DomainView) -> Members:
    return {
        "domain": view.name,
        "devices": view.devices,
        "anchors": view.anchors,
        "issuing": view.issuing,
    }

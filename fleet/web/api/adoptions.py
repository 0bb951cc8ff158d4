"""Operators' routes of adopted fleets: opened, listed, followed and closed."""

from device_agent.wire.fields import time_text
from fleet.model import Role
from fleet.ra.adopted import adoption as adopting
from fleet.ra.adopted.adoption import Closed, Opening
from fleet.ra.adopted.foreign_list import read_list
from fleet.store.adopted import AdoptedLeaf, LeafQuery, Standing, not_moved
from fleet.web.api.asked import MAX_PAGE, Asked, page_of
from fleet.web.api.certificates import cut_off
from fleet.web.api.routes import Members, One, Page, Route, listed, time_or_none

MAX_LIST_BYTES = 8 * 1024 * 1024


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (*_that_read(), *_that_act())


def _that_read() -> tuple[Route, ...]:
    return (
        Route(
            method="GET",
            path="adoptions",
            role=Role.VIEWER,
            handler=_list,
            about="Adopted fleets, by name, and how far each has moved.",
            answer=Page("Adoption"),
        ),
        Route(
            method="GET",
            path="adoptions/{name}/left",
            role=Role.VIEWER,
            handler=_left,
            about="Devices of an adopted fleet that have not moved yet, by id.",
            answer=Page("AdoptedLeaf"),
        ),
    )


def _that_act() -> tuple[Route, ...]:
    return (
        Route(
            method="POST",
            path="adoptions",
            role=Role.SECURITY,
            handler=_open,
            about="Adopt a fleet: trust its CAs for what will be listed, and nothing else.",
            query=("name", "domain"),
            needs=frozenset({"name", "domain"}),
            file="application/x-pem-file",
            longest=MAX_LIST_BYTES,
            answer=One("Adoption"),
        ),
        Route(
            method="POST",
            path="adoptions/{name}/leaves",
            role=Role.SECURITY,
            handler=_add,
            about="List certificates of an adopted fleet, at most 1000 at a time, each for a device.",
            file="text/csv",
            longest=MAX_LIST_BYTES,
            answer=One("AdoptionListed"),
        ),
        Route(
            method="POST",
            path="adoptions/{name}/crls",
            role=Role.SECURITY,
            handler=_take_lists,
            about="Take newer revocation lists of an adopted fleet's CAs; who is on them is cut off.",
            file="application/x-pem-file",
            longest=MAX_LIST_BYTES,
            answer=One("AdoptionEnded"),
        ),
        Route(
            method="POST",
            path="adoptions/{name}/close",
            role=Role.SECURITY,
            handler=_close,
            about="Let nobody in by that fleet's certificates any more; who has moved stays.",
            answer=One("AdoptionEnded"),
        ),
    )


async def _list(asked: Asked) -> Members:
    everything = await adopting.standings(asked.context)
    found, following = page_of(everything, asked.query(), key=lambda one: one.adoption.name)
    return listed([_standing(one) for one in found], following)


async def _left(asked: Asked) -> Members:
    name, query = asked.request.match_info["name"], asked.query()
    await adopting.require_known(asked.context, name)
    limit = min(query.limit(), MAX_PAGE)
    wanted = LeafQuery(adoption=name, after=query.text("after"), limit=limit)
    found = await asked.context.store.read(not_moved, wanted)
    following = found[-1].identity.device_id if len(found) == limit else None
    return listed([_leaf(one) for one in found], following)


async def _open(asked: Asked) -> Members:
    query, pem = asked.query(), asked.file()
    opening = Opening(
        name=query.text("name"),
        domain=asked.domain(query.text("domain")),
        authorities_pem=pem,
        crls_pem=pem,
        actor=asked.actor,
    )
    opened = await adopting.open_adoption(asked.context, opening)
    return _standing(Standing(adoption=opened, listed=0, waiting=0, here=0, moved=0))


async def _add(asked: Asked) -> Members:
    rows = read_list(asked.file())
    name = asked.request.match_info["name"]
    found = await adopting.add_leaves(asked.context, name, rows, actor=asked.actor)
    return {"admitted": found.admitted, "waiting": found.waiting, "known": found.known}


async def _take_lists(asked: Asked) -> Members:
    name = asked.request.match_info["name"]
    return _ended(await adopting.take_lists(asked.context, name, asked.file(), actor=asked.actor))


async def _close(asked: Asked) -> Members:
    name = asked.request.match_info["name"]
    return _ended(await adopting.close_adoption(asked.context, name, actor=asked.actor))


def _standing(standing: Standing) -> Members:
    adoption = standing.adoption
    return {
        "adoption": adoption.name,
        "domain": adoption.domain,
        "listed": standing.listed,
        "waiting": standing.waiting,
        "here": standing.here,
        "moved": standing.moved,
        "crls_until": time_text(adoption.crls_until),
        "opened_at": time_text(adoption.opened_at),
        "closed_at": time_or_none(adoption.closed_at),
    }


def _leaf(leaf: AdoptedLeaf) -> Members:
    return {
        "adoption": leaf.adoption,
        "domain": leaf.identity.domain,
        "device_id": leaf.identity.device_id,
        "issuer": leaf.issuer,
        "serial": leaf.serial,
        "fingerprint": leaf.fingerprint,
        "admitted_at": time_or_none(leaf.admitted_at),
    }


def _ended(closed: Closed) -> Members:
    return {"ended": closed.ended, "sessions": [cut_off(one) for one in closed.sessions]}

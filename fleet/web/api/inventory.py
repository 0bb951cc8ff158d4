"""Operators' routes of what they know of devices: marks, groups, owners."""

import asyncio

from device_agent.wire.fields import Fields, time_text
from device_agent.wire.identity import Identity, parse_name
from device_agent.wire.problems import MalformedMessageError
from fleet.core.marking import Changes, Marking
from fleet.core.query_text import LONGEST_QUERY
from fleet.model import Role
from fleet.ra.inventory import groups, owners
from fleet.ra.inventory.groups import GroupView
from fleet.ra.inventory.marking import Marked, Speaker, mark_each, mark_page
from fleet.ra.inventory.marks_file import read_marks
from fleet.ra.selection import ByQuery, Preview, by_query, preview
from fleet.store.groups import Group
from fleet.store.owners import Owner
from fleet.web.api.asked import Asked, page_of
from fleet.web.api.routes import Members, One, Page, Route, listed, time_or_none

_LONGEST_FILE = 4 * 1024 * 1024
_LONGEST_NAME = 64
_LONGEST_WORDS = 200
_LONGEST_VALUE = 256
_LONGEST_ADDRESS = 320
_MARKS = ("model", "owner", "attributes", "tags", "without_tags", "groups", "without_groups")


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return *_routes_of_marks(), *_routes_of_groups(), *_routes_of_owners()


def _routes_of_marks() -> tuple[Route, ...]:
    return (
        Route(
            method="GET",
            path="devices/selection",
            role=Role.VIEWER,
            handler=_preview,
            about="How many devices a query selects, of how many, and some of them.",
            query=("query",),
            needs=frozenset({"query"}),
            answer=One("Selected"),
        ),
        Route(
            method="POST",
            path="devices/marks",
            role=Role.OPERATOR,
            handler=_mark,
            about="Say what is known of devices: of those named, or of a page of those that fit a query.",
            body=("names", "query", "after", *_MARKS),
            answer=One("Marked"),
        ),
        Route(
            method="POST",
            path="devices/marks/import",
            role=Role.OPERATOR,
            handler=_import,
            about="Say what is known of the devices of a table, a device a line.",
            query=("domain",),
            needs=frozenset({"domain"}),
            file="text/csv",
            longest=_LONGEST_FILE,
            answer=One("Marked"),
        ),
    )


def _routes_of_groups() -> tuple[Route, ...]:
    return (
        Route(
            method="GET",
            path="groups",
            role=Role.VIEWER,
            handler=_list_groups,
            about="Groups of devices, by name.",
            answer=Page("Group"),
        ),
        Route(
            method="POST",
            path="groups",
            role=Role.OPERATOR,
            handler=_add_group,
            about="Add a group: an empty one, or one whose members a query finds.",
            body=("name", "query", "note"),
            needs=frozenset({"name"}),
            answer=One("Group"),
        ),
        Route(
            method="GET",
            path="groups/{name}",
            role=Role.VIEWER,
            handler=_show_group,
            about="A group, and how many devices are in it.",
            answer=One("Group"),
        ),
        Route(
            method="POST",
            path="groups/{name}/remove",
            role=Role.OPERATOR,
            handler=_remove_group,
            about="Forget a group that nobody is in.",
            answer=One("Group"),
        ),
    )


def _routes_of_owners() -> tuple[Route, ...]:
    return (
        Route(
            method="GET",
            path="owners",
            role=Role.VIEWER,
            handler=_list_owners,
            about="Whom devices belong to, by name.",
            answer=Page("Owner"),
        ),
        Route(
            method="POST",
            path="owners",
            role=Role.OPERATOR,
            handler=_save_owner,
            about="Add an owner, or change who he is and where he is told of his devices.",
            body=("name", "about", "contacts"),
            needs=frozenset({"name"}),
            answer=One("Owner"),
        ),
        Route(
            method="POST",
            path="owners/{name}/remove",
            role=Role.OPERATOR,
            handler=_remove_owner,
            about="Give no more devices to an owner who has none.",
            answer=One("Owner"),
        ),
    )


async def _preview(asked: Asked) -> Members:
    selection = by_query(asked.query().long_text("query"), now=asked.context.clock())
    return _selected(await preview(asked.context, selection))


async def _mark(asked: Asked) -> Members:
    body = asked.body()
    marking, speaker = _marking(body), _speaker(asked)
    match [name for name in ("names", "query") if name in body]:
        case ["names"]:
            names = (asked.known(parse_name(name)) for name in body.texts("names", longest=100))
            told = tuple((identity, marking) for identity in dict.fromkeys(names))
            return _marked(await mark_each(asked.context, told, speaker=speaker))
        case ["query"]:
            after = parse_name(body.text("after", longest=100)) if "after" in body else None
            selection = _selection(asked, body)
            done = await mark_page(asked.context, selection, marking, after=after, speaker=speaker)
            return _marked(done)
        case _:
            raise MalformedMessageError("name the devices by exactly one of names, query")


async def _import(asked: Asked) -> Members:
    domain = asked.domain(asked.query().domain("domain"))
    async with asked.context.turns.of("marks"):  # a long list is work: one at a time, beside the loop
        lines = await asyncio.to_thread(read_marks, asked.file(), domain=domain)
        told = tuple((asked.known(identity), marks) for identity, marks in lines)
        return _marked(await mark_each(asked.context, told, speaker=_speaker(asked)))


async def _list_groups(asked: Asked) -> Members:
    found = await groups.list_all(asked.context)
    page, following = page_of(found, asked.query(), key=lambda view: view.group.name)
    return listed([_group(view) for view in page], following)


async def _add_group(asked: Asked) -> Members:
    body = asked.body()
    group = Group(
        name=body.text("name", longest=_LONGEST_NAME),
        query=body.text("query", longest=LONGEST_QUERY) if "query" in body else None,
        note=body.text("note", longest=_LONGEST_WORDS) if "note" in body else "",
        made_at=asked.context.clock(),
    )
    return _group(await groups.add(asked.context, group, actor=asked.actor))


async def _show_group(asked: Asked) -> Members:
    return _group(await groups.show(asked.context, asked.request.match_info["name"]))


async def _remove_group(asked: Asked) -> Members:
    asked.body()
    name = asked.request.match_info["name"]
    return _group(await groups.remove(asked.context, name, actor=asked.actor))


async def _list_owners(asked: Asked) -> Members:
    found = await owners.list_all(asked.context)
    page, following = page_of(found, asked.query(), key=lambda owner: owner.name)
    return listed([_owner(owner) for owner in page], following)


async def _save_owner(asked: Asked) -> Members:
    body = asked.body()
    owner = Owner(
        name=body.text("name", longest=_LONGEST_NAME),
        about=body.text("about", longest=_LONGEST_WORDS) if "about" in body else "",
        contacts=body.texts("contacts", longest=_LONGEST_ADDRESS) if "contacts" in body else (),
        added_at=asked.context.clock().replace(microsecond=0),
    )
    return _owner(await owners.save(asked.context, owner, actor=asked.actor, said=body.names()))


async def _remove_owner(asked: Asked) -> Members:
    asked.body()
    name = asked.request.match_info["name"]
    return _owner(await owners.remove(asked.context, name, actor=asked.actor))


def _selection(asked: Asked, body: Fields) -> ByQuery:
    return by_query(body.text("query", longest=LONGEST_QUERY), now=asked.context.clock())


def _speaker(asked: Asked) -> Speaker:
    return Speaker(actor=asked.actor, role=asked.operator.role)


def _marking(body: Fields) -> Marking:
    attributes = body.text_members("attributes", longest=_LONGEST_VALUE) if "attributes" in body else {}
    return Marking(
        model=body.any_text("model", longest=_LONGEST_NAME) if "model" in body else None,
        owner=body.any_text("owner", longest=_LONGEST_NAME) if "owner" in body else None,
        attributes=tuple(sorted(attributes.items())),
        tags=Changes(put=_words(body, "tags"), take=_words(body, "without_tags")),
        groups=Changes(put=_words(body, "groups"), take=_words(body, "without_groups")),
    )


def _words(body: Fields, name: str) -> tuple[str, ...]:
    return body.texts(name, longest=_LONGEST_NAME) if name in body else ()


def _selected(found: Preview) -> Members:
    return {
        "devices": found.devices,
        "fleet_devices": found.fleet,
        "names": [identity.name for identity in found.sample],
    }


def _marked(done: Marked) -> Members:
    following: Identity | None = done.following
    return {
        "found": done.found,
        "changed": done.changed,
        "next": None if following is None else following.name,
    }


def _group(view: GroupView) -> Members:
    return {
        "group": view.group.name,
        "query": view.group.query,
        "note": view.group.note,
        "devices": view.devices,
        "made_at": time_text(view.group.made_at),
    }


def _owner(owner: Owner) -> Members:
    return {
        "owner": owner.name,
        "about": owner.about,
        "contacts": list(owner.contacts),
        "added_at": time_text(owner.added_at),
        "removed_at": time_or_none(owner.removed_at),
    }

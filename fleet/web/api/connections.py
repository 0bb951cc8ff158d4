"""Operators' routes of the connection history, and of the refusals that it sums up by cause."""

from datetime import datetime, timedelta

from device_agent.wire.fields import time_text
from device_agent.wire.identity import parse_shown_serial
from device_agent.wire.problems import MalformedMessageError
from fleet.core.causes import MEANINGS, Cause
from fleet.core.history import network_keys
from fleet.model import BrokerEventKind, Role
from fleet.ra.history import flush
from fleet.store import contacts
from fleet.store.contacts import ContactQuery, StoredContact, Trouble, TroubleQuery
from fleet.web.api.asked import Asked, Query
from fleet.web.api.routes import Members, Page, Route, listed

_USUAL = timedelta(days=1)


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="GET",
            path="connections",
            role=Role.VIEWER,
            handler=_list,
            about="Who connected, left or was refused, the newest first.",
            query=(
                *("event", "domain", "device_id", "serial", "place"),
                *("cause", "network", "since", "until"),
            ),
            answer=Page("Contact"),
        ),
        Route(
            method="GET",
            path="monitor",
            role=Role.VIEWER,
            handler=_monitor,
            about="Refused certificates by cause, with what helps; of the last day, or since a time.",
            query=("domain", "place", "cause", "since"),
            answer=Page("Trouble"),
        ),
    )


async def _list(asked: Asked) -> Members:
    query = asked.query()
    serial, cause = query.text("serial"), query.word("cause", of=Cause)
    wanted = ContactQuery(
        kind=query.word("event", of=BrokerEventKind),
        domain=query.domain("domain"),
        device_id=query.text("device_id"),
        serial=parse_shown_serial(serial) if serial else "",
        place=query.text("place"),
        cause="" if cause is None else cause.value,
        network=_network(query.text("network")),
        since=query.time("since"),
        until=query.time("until"),
        before=_cursor(query),
        limit=query.limit(),
    )
    await flush(asked.context.store, asked.context.history)
    found = await asked.context.store.read(contacts.search, wanted)
    following = str(found[-1].number) if len(found) == wanted.limit else None
    return listed([contact_members(row) for row in found], following)


async def _monitor(asked: Asked) -> Members:
    query = asked.query()
    cause = query.word("cause", of=Cause)
    wanted = TroubleQuery(
        since=query.time("since") or _yesterday(asked.context.clock()),
        cause="" if cause is None else cause.value,
        place=query.text("place"),
        domain=query.domain("domain"),
        before=_cursor(query),
        limit=query.limit(),
    )
    await flush(asked.context.store, asked.context.history)
    found = await asked.context.store.read(contacts.troubles, wanted)
    following = str(found[-1].newest) if len(found) == wanted.limit else None
    return listed([_trouble_members(trouble) for trouble in found], following)


def _yesterday(now: datetime) -> datetime:
    return now - _USUAL


def _cursor(query: Query) -> int | None:
    number = query.number("after", default=0, lowest=1, highest=2**62)
    return number or None


def _network(text: str) -> tuple[str, str] | None:
    if not text:
        return None
    keys = network_keys(text)
    if keys is None:
        raise MalformedMessageError("network must be an address, or a network such as 10.1.0.0/16")
    return keys


def contact_members(row: StoredContact) -> Members:
    """Return a row of the history as JSON."""
    one = row.contact
    return {
        "number": row.number,
        "kind": one.kind.value,
        "place": one.place,
        "cause": None if one.cause is None else one.cause.value,
        "ending": one.ending or None,
        "domain": one.domain,
        "device_id": one.device_id,
        "name": one.name,
        "serial": one.serial,
        "address": one.address,
        "first_at": time_text(one.first_at),
        "last_at": time_text(one.last_at),
        "times": one.times,
    }


def _trouble_members(trouble: Trouble) -> Members:
    meaning = MEANINGS[trouble.cause]
    return {
        "cause": trouble.cause.value,
        "place": trouble.place,
        "domain": trouble.domain,
        "device_id": trouble.device_id,
        "name": trouble.name,
        "serial": trouble.serial,
        "address": trouble.address,
        "first_at": time_text(trouble.first_at),
        "last_at": time_text(trouble.last_at),
        "times": trouble.times,
        "meaning": meaning.text,
        "fix": meaning.fix_for(device=trouble.device_id, serial=trouble.serial),
    }

"""Operators' routes of devices on their way: transfer, replacement, return; and the end of a device."""

from datetime import timedelta

from device_agent.wire.fields import Fields, time_text
from device_agent.wire.identity import Identity, parse_name
from fleet.core.moving import Move, MoveEvent, MoveKind
from fleet.model import Role
from fleet.ra.inventory import moving
from fleet.ra.inventory.decommission import Discharge, decommission
from fleet.ra.inventory.moving import Moved, MoveOrder
from fleet.store import moves
from fleet.store.moves import MoveQuery
from fleet.web.api.asked import Asked
from fleet.web.api.certificates import cut_off
from fleet.web.api.routes import Handler, Members, One, Page, Route, listed

_DEVICE = "{domain}/{device_id}"
_LONGEST_REASON = 200
_MAX_DAYS = 365
_DAYS = 7


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (*_shown(), *_begun(), *_advanced(), _ended())


def _shown() -> tuple[Route, ...]:
    return (
        Route(
            method="GET",
            path="moves",
            role=Role.VIEWER,
            handler=_list,
            about="Devices on their way and those that were, the oldest first.",
            query=("name", "open"),
            answer=Page("Move"),
        ),
        Route(
            method="GET",
            path=f"moves/{_DEVICE}",
            role=Role.VIEWER,
            handler=_show,
            about="Where the newest move of a device stands.",
            answer=One("Move"),
        ),
    )


def _begun() -> tuple[Route, ...]:
    return (
        Route(
            method="POST",
            path=f"moves/{_DEVICE}/transfer",
            role=Role.SECURITY,
            handler=_begin(MoveKind.TRANSFER),
            about="Move a device to another domain; with a certificate there, the one here is revoked.",
            body=("to_domain", "days", "reason"),
            needs=frozenset({"to_domain"}),
            answer=One("Moved"),
        ),
        Route(
            method="POST",
            path=f"moves/{_DEVICE}/replacement",
            role=Role.SECURITY,
            handler=_begin(MoveKind.REPLACEMENT),
            about="Let other hardware take over a device's id; all that the old one has is revoked at once.",
            body=("days", "reason"),
            answer=One("Moved"),
        ),
        Route(
            method="POST",
            path=f"moves/{_DEVICE}/return",
            role=Role.OPERATOR,
            handler=_begin(MoveKind.RETURN),
            about="Take a device back: it is kept out until somebody decides.",
            body=("reason",),
            answer=One("Moved"),
        ),
    )


def _advanced() -> tuple[Route, ...]:
    steps = (
        ("sent", Role.OPERATOR, MoveEvent.SEND, "A returned device was sent to whoever mends it."),
        ("readmit", Role.SECURITY, MoveEvent.READMIT, "A returned device goes on with the key that it has."),
        ("replace", Role.SECURITY, MoveEvent.REPLACE, "Other hardware takes over from a returned device."),
        ("code", Role.SECURITY, MoveEvent.CODE, "Make another code for a device that was not enrolled yet."),
        ("cancel", Role.SECURITY, MoveEvent.CANCEL, "The device stays where it is."),
    )
    return tuple(
        Route(
            method="POST",
            path=f"moves/{_DEVICE}/{verb}",
            role=role,
            handler=_step(event),
            about=about,
            body=("days", "reason") if verb in {"replace", "code"} else ("reason",),
            answer=One("Moved"),
        )
        for verb, role, event, about in steps
    )


def _ended() -> Route:
    return Route(
        method="POST",
        path=f"devices/{_DEVICE}/decommission",
        role=Role.SECURITY,
        handler=_decommission,
        about="Retire a device, revoke all that it has, and say what proves it.",
        body=("reason",),
        answer=One("Discharge"),
    )


async def _list(asked: Asked) -> Members:
    query = asked.query()
    name = query.text("name")
    wanted = MoveQuery(
        identity=asked.known(parse_name(name)) if name else None,
        only_open=query.text("open") == "yes",
        after=query.number("after", default=0, lowest=0, highest=2**53),
        limit=query.limit(),
    )
    found = await asked.context.store.read(moves.list_moves, wanted)
    following = str(found[-1].number) if len(found) == wanted.limit else None
    return listed([_move(move) for move in found], following)


async def _show(asked: Asked) -> Members:
    return _move(await moving.show(asked.context, asked.identity()))


def _begin(kind: MoveKind) -> Handler:
    async def handle(asked: Asked) -> Members:
        identity, body = asked.identity(), asked.body()
        to = asked.domain(body.text("to_domain", longest=32)) if "to_domain" in body else identity.domain
        order = _order(asked, body)
        return _moved(await moving.begin(asked.context, kind, identity, to=to, order=order))

    return handle


def _step(event: MoveEvent) -> Handler:
    async def handle(asked: Asked) -> Members:
        order = _order(asked, asked.body())
        return _moved(await moving.advance(asked.context, asked.identity(), event, order=order))

    return handle


async def _decommission(asked: Asked) -> Members:
    identity, body = asked.identity(), asked.body()
    reason = _reason(body)
    return _discharge(await decommission(asked.context, identity, actor=asked.actor, reason=reason))


def _order(asked: Asked, body: Fields) -> MoveOrder:
    days = body.integer("days", lowest=1, highest=_MAX_DAYS) if "days" in body else _DAYS
    return MoveOrder(actor=asked.actor, lifetime=timedelta(days=days), reason=_reason(body))


def _reason(body: Fields) -> str:
    return body.text("reason", longest=_LONGEST_REASON) if "reason" in body else ""


def _move(move: Move) -> Members:
    return {
        **_named(move.identity),
        "number": move.number,
        "move": move.kind.value,
        "state": move.state.value,
        "to_domain": move.target.domain,
        "started_at": time_text(move.started_at),
        "started_by": move.started_by,
        "changed_at": time_text(move.changed_at),
    }


def _moved(moved: Moved) -> Members:
    code = moved.code
    return {
        **_move(moved.move),
        "code": None if code is None else code.code.reveal(),
        "expires": None if code is None else time_text(code.expires_at),
        "sessions": [cut_off(session) for session in moved.cut_offs],
    }


def _discharge(discharge: Discharge) -> Members:
    return {
        **_named(discharge.identity),
        "retired_at": time_text(discharge.retired_at),
        "revoked": list(discharge.revoked),
        "sessions": [cut_off(session) for session in discharge.sessions],
        "entries": list(discharge.entries),
        "verified": discharge.verified,
        "problem": discharge.problem or None,
    }


def _named(identity: Identity) -> Members:
    return {"domain": identity.domain, "device_id": identity.device_id}

"""Operators' routes of claims: one-time codes, sheets of them, and batches with claim certificates.

A code or a key leaves the server once, in the answer to whoever made it.
"""

from datetime import timedelta

from aiohttp import web

from device_agent.wire.fields import Fields, time_text
from device_agent.wire.identity import Identity, parse_device_id
from device_agent.wire.problems import MalformedMessageError
from fleet.errors import NotFoundError
from fleet.model import Role
from fleet.ra import devices
from fleet.ra.people import batches, claims, sheets
from fleet.ra.people.batches import BatchOrder
from fleet.ra.people.claims import CodeOrder, NewCode
from fleet.store.claims import Batch
from fleet.store.codes import CodeQuery, CodeRecord
from fleet.store.inventory import DeviceQuery
from fleet.web.api.asked import MAX_PAGE, Asked, flag_of, page_of
from fleet.web.api.certificates import cut_off
from fleet.web.api.routes import Document, Members, One, Page, Route, listed, require, time_or_none

_MAX_DAYS = 3650
_MAX_USES = 1_000_000
_LONGEST_REASON = 200
_ORDER = ("domain", "devices", "batch", "days", "key_hash", "replace", "reason")
_NEEDED = frozenset({"domain"})


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return *_routes_of_codes(), *_routes_of_batches()


def _routes_of_codes() -> tuple[Route, ...]:
    return (
        Route(
            method="GET",
            path="claims/codes",
            role=Role.VIEWER,
            handler=_codes,
            about="One-time codes and other grants; the codes themselves are known to nobody.",
            query=("domain", "device_id"),
            answer=Page("Grant"),
        ),
        Route(
            method="POST",
            path="claims/codes",
            role=Role.OPERATOR,
            handler=_create_codes,
            about="Make one-time codes for devices; `replace`, which revokes, needs the role security.",
            body=_ORDER,
            needs=_NEEDED,
            answer=Page("NewCode"),
        ),
        Route(
            method="POST",
            path="claims/sheet",
            role=Role.OPERATOR,
            handler=_sheet,
            about="Make one-time codes, and return them as a sheet for people.",
            body=(*_ORDER, "html"),
            needs=_NEEDED,
            answer=Document("text/plain"),
        ),
        Route(
            method="POST",
            path="claims/codes/revoke",
            role=Role.OPERATOR,
            handler=_revoke_code,
            about="Close a code; what it has admitted stays.",
            body=("code_id", "reason"),
            needs=frozenset({"code_id"}),
            answer=One("Grant"),
        ),
    )


def _routes_of_batches() -> tuple[Route, ...]:
    return (
        Route(
            method="GET",
            path="claims/batches",
            role=Role.VIEWER,
            handler=_batches,
            about="Batches, and how often their claim certificates were used.",
            query=("domain",),
            answer=Page("Batch"),
        ),
        Route(
            method="POST",
            path="claims/batches",
            role=Role.SECURITY,
            handler=_create_batch,
            about="Make a claim certificate for a batch; its key is in the answer, and nowhere else.",
            body=("domain", "batch", "uses", "days"),
            needs=frozenset({"domain", "batch", "uses"}),
            answer=One("NewBatch"),
        ),
        Route(
            method="POST",
            path="claims/batches/revoke",
            role=Role.SECURITY,
            handler=_revoke_batch,
            about="Close a batch: its claim certificates are revoked.",
            body=("domain", "batch", "reason"),
            needs=frozenset({"domain", "batch"}),
            answer=One("ClosedBatch"),
        ),
    )


async def _codes(asked: Asked) -> Members:
    query = asked.query()
    wanted = CodeQuery(
        domain=query.domain("domain"),
        device_id=query.text("device_id"),
        after=_cursor(query.text("after")),
        limit=query.limit(),
    )
    found = (await claims.list_claims(asked.context, wanted)).codes
    last = found[-1] if len(found) == wanted.limit else None
    return listed([code_members(code) for code in found], None if last is None else _place(last))


async def _batches(asked: Asked) -> Members:
    query = asked.query()
    wanted = CodeQuery(domain=query.domain("domain"), limit=1)
    everything = (await claims.list_claims(asked.context, wanted)).batches
    found, following = page_of(everything, query, key=lambda batch: f"{batch.domain}/{batch.name}")
    return listed([_batch(batch) for batch in found], following)


async def _create_codes(asked: Asked) -> Members:
    made = await _made(asked, asked.body())
    return listed([_new_code(new) for new in made])


async def _sheet(asked: Asked) -> web.Response:
    body = asked.body()
    made = await _made(asked, body)
    fleet = asked.context.fleet
    headers = {"Cache-Control": "no-store"}
    if flag_of(body, "html"):
        page = sheets.sheet_html(made, fleet=fleet)
        return web.Response(text=page, content_type="text/html", headers=headers)
    return web.Response(text=sheets.sheet_text(made, fleet=fleet), headers=headers)


async def _made(asked: Asked, body: Fields) -> tuple[NewCode, ...]:
    domain = asked.domain(body.text("domain", longest=32))
    replaces = flag_of(body, "replace")
    if replaces:
        require(asked.operator, Role.SECURITY)  # it revokes all that the devices have
    order = CodeOrder(
        identities=await _identities(asked, body, domain),
        actor=asked.actor,
        lifetime=_lifetime(asked, body),
        key_hash=body.sha256("key_hash") if "key_hash" in body else None,
        replaces=replaces,
        reason=_reason(body),
    )
    return await claims.create_codes(asked.context, order)


async def _identities(asked: Asked, body: Fields, domain: str) -> tuple[Identity, ...]:
    """Return the devices that are to have a code: those named, or all that are registered for a batch."""
    if ("devices" in body) == ("batch" in body):
        raise MalformedMessageError("name either devices or a batch")
    if "devices" in body:
        ids = tuple(dict.fromkeys(parse_device_id(text) for text in body.texts("devices", longest=64)))
        return tuple(Identity(domain=domain, device_id=device_id) for device_id in ids)
    name = body.text("batch", longest=32)
    found: list[Identity] = []
    page = DeviceQuery(domain=domain, batch=name, limit=MAX_PAGE)
    while summaries := await devices.list_devices(asked.context, page):
        found += [summary.identity for summary in summaries]
        after = (domain, found[-1].device_id)
        page = DeviceQuery(domain=domain, batch=name, after=after, limit=MAX_PAGE)
    if not found:
        raise NotFoundError(
            f"no device is registered for batch {name} of {domain}", hint="fleet device import"
        )
    return tuple(found)


async def _create_batch(asked: Asked) -> Members:
    body = asked.body()
    order = BatchOrder(
        domain=asked.domain(body.text("domain", longest=32)),
        name=body.text("batch", longest=32),
        uses=body.integer("uses", lowest=1, highest=_MAX_USES),
        lifetime=_lifetime(asked, body),
        actor=asked.actor,
    )
    new = await batches.create_batch(asked.context, order)
    return {
        **_batch(new.batch),
        "serial": new.own.issued.serial,
        "certificate": new.own.certificate_pem,
        "key": new.own.key_pem.decode(),
    }


async def _revoke_code(asked: Asked) -> Members:
    body = asked.body()
    code_id = body.hex("code_id", lowest=16, highest=16).hex()
    return code_members(
        await claims.revoke_code(asked.context, code_id, actor=asked.actor, reason=_reason(body))
    )


async def _revoke_batch(asked: Asked) -> Members:
    body = asked.body()
    domain = asked.domain(body.text("domain", longest=32))
    name = body.text("batch", longest=32)
    closed = await claims.revoke_batch(asked.context, domain, name, actor=asked.actor, reason=_reason(body))
    return {
        "domain": closed.batch.domain,
        "batch": closed.batch.name,
        "certificates": closed.certificates,
        "sessions": [cut_off(session) for session in closed.cut_offs],
    }


def code_members(code: CodeRecord) -> Members:
    """Return a grant as JSON; the code itself is known to nobody."""
    return {
        "domain": code.identity.domain,
        "device_id": code.identity.device_id,
        "code_id": code.code_id,
        "kind": code.kind.value,
        "source": code.source,
        "bound": code.key_hash is not None,
        "created_at": time_text(code.created_at),
        "expires": time_or_none(code.expires_at),
        "closed_at": time_or_none(code.closed_at),
    }


def _new_code(new: NewCode) -> Members:
    return {
        "domain": new.identity.domain,
        "device_id": new.identity.device_id,
        "code_id": new.code_id,
        "code": new.code.reveal(),
        "expires": time_text(new.expires_at),
    }


def _batch(batch: Batch) -> Members:
    return {
        "domain": batch.domain,
        "batch": batch.name,
        "uses": batch.uses,
        "uses_allowed": batch.uses_allowed,
        "pending": batch.pending,
        "created_at": time_text(batch.created_at),
        "expires": time_or_none(batch.expires_at),
        "closed_at": time_or_none(batch.closed_at),
    }


def _lifetime(asked: Asked, body: Fields) -> timedelta:
    if "days" not in body:
        return asked.context.config.policy.code_lifetime
    return timedelta(days=body.integer("days", lowest=1, highest=_MAX_DAYS))


def _reason(body: Fields) -> str:
    return body.text("reason", longest=_LONGEST_REASON) if "reason" in body else ""


def _place(code: CodeRecord) -> str:
    return f"{code.identity.domain}/{code.identity.device_id}/{code.code_id}"


def _cursor(text: str) -> tuple[str, str, str]:
    """Return the place of the last code of the page before; `/` is in none of its parts."""
    if not text:
        return ("", "", "")
    parts = text.split("/")
    if len(parts) != 3:
        raise MalformedMessageError("after must be the cursor of the page before")
    return (parts[0], parts[1], parts[2])

"""Operators' routes of devices: lists, one with all that is on file, registration, and the acts on it."""

import base64
from collections.abc import Awaitable
from datetime import datetime
from typing import Protocol

from cryptography import x509

from device_agent.wire.fields import Fields, time_text
from device_agent.wire.identity import Identity, parse_domain, parse_name
from device_agent.wire.problems import MalformedMessageError
from fleet.attest.secure_elements import Signer
from fleet.core.marking import Marks
from fleet.core.query import Condition
from fleet.core.query_text import parse_query
from fleet.core.unreadable import UNREADABLE
from fleet.model import ClientKind, Role, Standing
from fleet.ra import devices
from fleet.ra.context import Context
from fleet.ra.devices import DeviceView, Outcome, Registration
from fleet.ra.inventory.marking import require_undecisive
from fleet.ra.people import explain, roster
from fleet.ra.people.roster import ImportFormat, Roster
from fleet.store import access_classes
from fleet.store.inventory import DeviceQuery, DeviceSummary
from fleet.store.listed import Listing
from fleet.store.marks import marks_of_many
from fleet.store.proofs import ProofRecord
from fleet.web.api import waiting
from fleet.web.api.asked import MAX_FILE_BYTES, Asked, Query
from fleet.web.api.certificates import certificate_members
from fleet.web.api.claims import code_members
from fleet.web.api.routes import Handler, Members, One, Page, Route, listed, time_or_none
from fleet.web.api.stories import story_members
from fleet.web.api.waiting import outcome_members, waiting_members

_DEVICE = "devices/{domain}/{device_id}"
_LONGEST_REASON = 200


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return *_routes_of_many(), *_routes_of_one(), *waiting.routes()


def _routes_of_many() -> tuple[Route, ...]:
    return (
        Route(
            method="GET",
            path="devices",
            role=Role.VIEWER,
            handler=_list,
            about="Devices, by domain and id.",
            query=("domain", "standing", "batch", "prefix", "query"),
            answer=Page("Device"),
        ),
        Route(
            method="POST",
            path="devices",
            role=Role.OPERATOR,
            handler=_register,
            about="Register a device, so that it may enroll.",
            body=("domain", "device_id", "kind", "batch", "hardware", "note"),
            needs=frozenset({"domain", "device_id"}),
            answer=One("DeviceFile"),
        ),
        Route(
            method="POST",
            path="devices/import",
            role=Role.OPERATOR,
            handler=_import,
            about="Register the devices of a list, all or none.",
            query=("domain", "format", "signer"),
            needs=frozenset({"domain"}),
            file="text/csv",
            longest=MAX_FILE_BYTES,
            answer=One("Imported"),
        ),
    )


def _routes_of_one() -> tuple[Route, ...]:
    return (
        Route(
            method="GET",
            path=_DEVICE,
            role=Role.VIEWER,
            handler=_show,
            about="All that is on file about a device.",
            answer=One("DeviceFile"),
        ),
        Route(
            method="GET",
            path=f"{_DEVICE}/explain",
            role=Role.VIEWER,
            handler=_explain,
            about="Why a device stands where it stands, and what to do.",
            answer=One("Story"),
        ),
        *(
            Route(
                method="POST",
                path=f"{_DEVICE}/{verb}",
                role=role,
                handler=_act(deed),
                about=about,
                body=("reason",),
                answer=One("Outcome"),
            )
            for verb, role, deed, about in (
                ("suspend", Role.OPERATOR, devices.suspend, "Keep a device out until it is resumed."),
                (
                    "resume",
                    Role.SECURITY,
                    devices.resume,
                    "End a suspension or an alarm: the device goes on.",
                ),
                ("retire", Role.SECURITY, devices.retire, "End a device for good, and revoke what it has."),
            )
        ),
    )


async def _list(asked: Asked) -> Members:
    query = asked.query()
    wanted = DeviceQuery(
        domain=query.domain("domain"),
        standing=query.word("standing", of=Standing),
        batch=query.text("batch"),
        prefix=query.text("prefix"),
        condition=_condition(query),
        now=asked.context.clock(),
        after=_cursor(query.text("after")),
        limit=query.limit(),
    )
    found = await devices.list_devices(asked.context, wanted)
    known = await asked.context.store.read(marks_of_many, [summary.identity for summary in found])
    following = found[-1].identity.name if len(found) == wanted.limit else None
    return listed([_summary(summary, known[summary.identity]) for summary in found], following)


def _condition(query: Query) -> Condition | None:
    text = query.long_text("query")
    return parse_query(text).condition if text else None


async def _register(asked: Asked) -> Members:
    body = asked.body()
    identity = Identity(domain=body.text("domain", longest=32), device_id=body.device_id("device_id"))
    registration = Registration(
        identity=asked.known(identity),
        kind=body.word("kind", of=ClientKind) if "kind" in body else ClientKind.AGENT,
        batch=parse_domain(body.text("batch", longest=32)) if "batch" in body else None,
        hardware=_words(body, "hardware"),
        note=_words(body, "note"),
    )
    if registration.batch is not None and asked.operator.role is not Role.SECURITY:
        decisive = await asked.context.store.read(access_classes.asked, None)
        require_undecisive(frozenset({"batch"}), frozenset(decisive))
    await devices.register(asked.context, registration, actor=asked.actor)
    return _view(await devices.show(asked.context, identity), now=asked.context.clock())


async def _import(asked: Asked) -> Members:
    query = asked.query()
    domain = asked.domain(query.domain("domain"))
    handed_in = Roster(
        text=asked.file(),
        format=query.word("format", of=ImportFormat) or ImportFormat.AUTO,
        domain=domain,
        signer=_signer(query, asked.context),
    )
    imported = await roster.import_devices(asked.context, handed_in, actor=asked.actor)
    return {"listed": imported.listed, "registered": imported.registered, "things": imported.things}


def _signer(query: Query, context: Context) -> Signer | None:
    """Return who has signed a list: his certificate stands in the query, DER in base64url."""
    text = query.long_text("signer")
    if not text:
        return None
    try:
        der = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return Signer(x509.load_der_x509_certificate(der), at=context.clock())
    except UNREADABLE as error:
        raise MalformedMessageError(f"signer: {error}") from error


async def _show(asked: Asked) -> Members:
    return _view(await devices.show(asked.context, asked.identity()), now=asked.context.clock())


async def _explain(asked: Asked) -> Members:
    story = await explain.explain(asked.context, asked.identity())
    return story_members(story, now=asked.context.clock())


class _Deed(Protocol):
    def __call__(
        self, desk: Context, identity: Identity, *, actor: str, reason: str
    ) -> Awaitable[Outcome]: ...


def _act(deed: _Deed) -> Handler:
    async def handle(asked: Asked) -> Members:
        identity = asked.identity()
        body = asked.body()
        return outcome_members(
            await deed(asked.context, identity, actor=asked.actor, reason=_words(body, "reason"))
        )

    return handle


def _proof(proof: ProofRecord) -> Members:
    return {
        "key_hash": proof.key_hash,
        "proof": proof.kind.value,
        "assurance": proof.assurance.word,
        "evidence": proof.evidence,
        "proved_at": time_text(proof.proved_at),
    }


def _listing(listing: Listing) -> Members:
    return {
        "thing": listing.thing.kind.value,
        "value": listing.thing.value,
        "source": listing.source,
        "listed_at": time_text(listing.listed_at),
    }


def _words(body: Fields, name: str) -> str:
    return body.text(name, longest=_LONGEST_REASON) if name in body else ""


def _cursor(text: str) -> tuple[str, str]:
    if not text:
        return ("", "")
    identity = parse_name(text)
    return (identity.domain, identity.device_id)


def _summary(summary: DeviceSummary, marks: Marks) -> Members:
    return {
        "domain": summary.identity.domain,
        "device_id": summary.identity.device_id,
        "kind": summary.kind.value,
        "standing": summary.standing.value,
        "alarm": summary.alarm.name.lower().replace("_", "-"),
        "batch": summary.batch,
        "serial": summary.serial,
        "not_after": time_or_none(summary.not_after),
        "registered_at": time_text(summary.registered_at),
        "last_seen_at": time_or_none(summary.last_seen_at),
        "model": marks.model or None,
        "owner": marks.owner or None,
        "agent_version": marks.version or None,
        "tags": list(marks.tags),
        "groups": list(marks.groups),
    }


def _view(view: DeviceView, *, now: datetime) -> Members:
    return {
        **_summary(view.summary, view.marks),
        "hardware": view.record.hardware,
        "note": view.record.note,
        "profile": view.record.profile or None,
        "assurance": view.record.assurance.word,
        "code_conflict": view.device.code_conflict,
        "retired_at": time_or_none(view.record.retired_at),
        "certificates": [certificate_members(record) for record in view.certificates],
        "codes": [code_members(code) for code in view.codes],
        "proofs": [_proof(proof) for proof in view.proofs],
        "listed": [_listing(listing) for listing in view.listings],
        "attributes": dict(view.marks.attributes),
        "waiting": [waiting_members(request, now=now) for request in view.waiting],
    }

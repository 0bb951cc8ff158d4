"""Routes by which an operator without a certificate is let in again: open to all, decided by others."""

from device_agent.wire.fields import time_text
from device_agent.wire.secret import Secret
from fleet.core.readmission import ReadmissionState, needs
from fleet.model import Role
from fleet.ra.own.own_requests import certificate_pem
from fleet.ra.people import readmission
from fleet.ra.people.readmission import Plea, Vouching
from fleet.store.certificates import load_certificate
from fleet.store.readmissions import ReadmissionRecord
from fleet.web.api.asked import Asked, page_of
from fleet.web.api.routes import Members, One, Page, Route, listed, time_or_none

_LONGEST_CODE = 16
_LONGEST_SPOKEN = 32
_LONGEST_REASON = 200
_MOST = 200


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="POST",
            path="readmissions",
            role=None,
            handler=_ask,
            about="Ask to be let in again with a new key; asked again, it tells what became of that.",
            body=("name", "csr", "totp"),
            needs=frozenset({"name", "csr"}),
            answer=One("Plea"),
        ),
        Route(
            method="GET",
            path="readmissions",
            role=Role.VIEWER,
            handler=_list,
            about="Operators who ask to be let in again, by id; not the code that each reads out.",
            answer=Page("Readmission"),
        ),
        Route(
            method="POST",
            path="readmissions/vouch",
            role=Role.SECURITY,
            handler=_vouch,
            about="Vouch for another operator, by the code that he read out over another way.",
            body=("name", "spoken_code"),
            needs=frozenset({"name", "spoken_code"}),
            answer=One("Readmission"),
        ),
        Route(
            method="POST",
            path="readmissions/{readmission}/deny",
            role=Role.SECURITY,
            handler=_deny,
            about="End a plea: its key is never certified.",
            body=("reason",),
            answer=One("Readmission"),
        ),
    )


async def _ask(asked: Asked) -> Members:
    body = asked.body()
    plea = Plea(
        operator=body.text("name", longest=32),
        csr=body.pem("csr"),
        code=Secret(body.text("totp", longest=_LONGEST_CODE) if "totp" in body else ""),
        address=asked.request.remote or "",
    )
    record = await readmission.ask(asked.context, plea)
    others = await asked.context.store.read(readmission.others_of, record.operator)
    return {
        "operator": record.operator,
        "state": record.state.value,
        "spoken_code": record.spoken_code,
        "needs": needs(others) if record.state is ReadmissionState.OPEN else None,
        "serial": record.serial,
        "certificate": await _certificate(asked, record),
    }


async def _certificate(asked: Asked, record: ReadmissionRecord) -> str | None:
    if record.state is not ReadmissionState.DONE or record.serial is None:
        return None
    found = await asked.context.store.read(load_certificate, record.serial)
    return None if found is None else certificate_pem(asked.context, found)


async def _list(asked: Asked) -> Members:
    pleas = await readmission.list_pleas(asked.context, _MOST)
    found, following = page_of(pleas, asked.query(), key=lambda each: each.readmission)
    return listed([_members(each) for each in found], following)


async def _vouch(asked: Asked) -> Members:
    body = asked.body()
    vouching = Vouching(
        operator=body.text("name", longest=32),
        spoken=body.text("spoken_code", longest=_LONGEST_SPOKEN),
        voice=asked.operator.name,
    )
    return _members(await readmission.vouch(asked.context, vouching))


async def _deny(asked: Asked) -> Members:
    body, wanted = asked.body(), asked.request.match_info["readmission"]
    reason = body.text("reason", longest=_LONGEST_REASON) if "reason" in body else ""
    return _members(await readmission.deny(asked.context, wanted, actor=asked.actor, reason=reason))


def _members(record: ReadmissionRecord) -> Members:
    return {
        "readmission": record.readmission,
        "operator": record.operator,
        "state": record.state.value,
        "proved": record.proved or None,
        "address": record.address,
        "voices": record.voices,
        "asked_at": time_text(record.asked_at),
        "expires_at": time_text(record.expires_at),
        "decided_at": time_or_none(record.decided_at),
        "serial": record.serial,
    }

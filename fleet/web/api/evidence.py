"""Operators' routes of what is taken along of the audit trail: its signed head, proofs, and all of it."""

from aiohttp import web

from device_agent.wire.identity import parse_sha256
from fleet.errors import BadInputError
from fleet.model import Role
from fleet.ra.people import audits, proofs
from fleet.ra.people.audits import ExportForm
from fleet.ra.people.proofs import Beginning, Proof
from fleet.ra.people.trail import trail_of
from fleet.ra.trail_lines import recorded
from fleet.store.seal import head_members
from fleet.web.api.asked import Asked
from fleet.web.api.routes import Document, Members, One, Route, require

_LINES_AT_ONCE = 200


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="GET",
            path="audit/head",
            role=Role.VIEWER,
            handler=_head,
            about="The newest signed head of the trail, to be kept elsewhere.",
            answer=One("AuditHead"),
        ),
        Route(
            method="GET",
            path="audit/proof",
            role=Role.VIEWER,
            handler=_prove,
            about="Proof that the trail carries on from a kept head; of an entry, for the role security.",
            query=("entry", "earlier_size", "earlier_root"),
            answer=One("AuditProof"),
        ),
        Route(
            method="GET",
            path="audit/export",
            role=Role.SECURITY,
            handler=_export,
            about="The trail as JSON lines, each entry with its hash; the last line is the signed head.",
            query=("after",),
            answer=Document("application/jsonl"),
        ),
        Route(
            method="GET",
            path="audit/syslog",
            role=Role.SECURITY,
            handler=_export_syslog,
            about="The trail as syslog messages (RFC 5424), one a line; the last line is the signed head.",
            query=("after",),
            answer=Document("text/plain"),
        ),
    )


async def _head(asked: Asked) -> Members:
    return head_members(await proofs.head(asked.context.store, asked.context.fleet))


async def _prove(asked: Asked) -> Members:
    query = asked.query()
    number = query.number("entry", default=-1, lowest=0, highest=2**62)
    size = query.number("earlier_size", default=0, lowest=1, highest=2**62)
    if bool(size) != bool(query.text("earlier_root")):
        raise BadInputError("earlier_size and earlier_root are of one head", hint="name both, or none")
    root = bytes.fromhex(parse_sha256(query.text("earlier_root"))) if size else b""
    beginning = Beginning(size=size, root=root) if size else None
    if number >= 0:
        require(asked.operator, Role.SECURITY)  # a whole entry tells more than viewers are shown
    proof = await proofs.prove(
        trail_of(asked.context),
        number=None if number < 0 else number,
        beginning=beginning,
    )
    return proof_members(proof)


def proof_members(proof: Proof) -> Members:
    """Return a proof as the JSON that is handed to an auditor."""
    return {
        "head": head_members(proof.head),
        "earlier_size": proof.earlier_size,
        "consistency": [step.hex() for step in proof.consistency],
        "entry": None if proof.entry is None else recorded(proof.entry),
        "inclusion": None if proof.entry is None else [step.hex() for step in proof.inclusion],
    }


async def _export(asked: Asked) -> web.StreamResponse:
    return await _streamed(asked, "application/jsonl", form=ExportForm.JSON_LINES)


async def _export_syslog(asked: Asked) -> web.StreamResponse:
    return await _streamed(asked, "text/plain", form=ExportForm.SYSLOG)


async def _streamed(asked: Asked, media_type: str, *, form: ExportForm) -> web.StreamResponse:
    after = asked.query().number("after", default=-1, lowest=-1, highest=2**62)
    response = web.StreamResponse(headers={"Cache-Control": "no-store"})
    response.content_type = media_type
    await response.prepare(asked.request)
    lines: list[str] = []
    async for line in audits.export(trail_of(asked.context), after=after, form=form):
        lines.append(f"{line}\n")
        if len(lines) == _LINES_AT_ONCE:
            await response.write("".join(lines).encode())
            lines.clear()
    await response.write("".join(lines).encode())
    await response.write_eof()
    return response

"""Operators' routes of certificates, and of taking them back."""

from aiohttp import web

from device_agent.wire.fields import Fields, time_text
from device_agent.wire.identity import Identity, parse_domain
from device_agent.wire.problems import MalformedMessageError
from fleet.core.query_text import LONGEST_QUERY, parse_query
from fleet.model import CertificateState, CutOff, Purpose, RevocationReason, Role
from fleet.ra.acts.revoking import RevokeOrder, revoke_or_propose
from fleet.ra.people import certificates
from fleet.ra.selection import ByDevice, BySerial, Selection, by_query
from fleet.ra.status.revoke import Receipt
from fleet.ra.status.verdict_faults import Wanted
from fleet.ra.status.verdicts import verify
from fleet.store.certificates import CertificateQuery, CertificateRecord
from fleet.web.api.asked import Asked
from fleet.web.api.routes import Document, Members, One, Page, Route, listed, time_or_none

_PEM_TYPE = "application/pem-certificate-chain"
_SELECTIONS = ("device_id", "serial", "lineage", "batch", "query")


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (*_shown(), *_judged())


def _shown() -> tuple[Route, ...]:
    """Return what tells of certificates."""
    return (
        Route(
            method="GET",
            path="certificates",
            role=Role.VIEWER,
            handler=_list,
            about="Certificates, by serial.",
            query=("domain", "device_id", "purpose", "state", "batch", "name", "ends_before", "query"),
            answer=Page("Certificate"),
        ),
        Route(
            method="GET",
            path="certificates/{serial}",
            role=Role.VIEWER,
            handler=_show,
            about="What is on record about a certificate.",
            answer=One("CertificateFile"),
        ),
        Route(
            method="GET",
            path="certificates/{serial}/pem",
            role=Role.VIEWER,
            handler=_export,
            about="A certificate with its issuing CAs, PEM, as TLS sends them.",
            answer=Document(_PEM_TYPE),
        ),
        Route(
            method="GET",
            path="certificates/{serial}/chain",
            role=Role.VIEWER,
            handler=_export_chain,
            about="A certificate with its issuing CAs and its trust anchor, PEM.",
            answer=Document(_PEM_TYPE),
        ),
    )


def _judged() -> tuple[Route, ...]:
    """Return what judges them, and takes them back."""
    return (
        Route(
            method="POST",
            path="certificates/verify",
            role=Role.VIEWER,
            handler=_verify,
            about="Say whether a certificate is good for this fleet. Changes nothing.",
            body=("certificate", "at", "domain", "purpose"),
            needs=frozenset({"certificate"}),
            answer=One("Verdict"),
        ),
        Route(
            method="POST",
            path="revocations",
            role=Role.SECURITY,
            handler=_revoke,
            about="Take certificates back and end their sessions. Name them in exactly one way.",
            body=("domain", "reason", *_SELECTIONS),
            needs=frozenset({"reason"}),
            answer=One("Receipt"),
        ),
    )


async def _list(asked: Asked) -> Members:
    query = asked.query()
    wanted = CertificateQuery(
        domain=query.domain("domain"),
        device_id=query.text("device_id"),
        purpose=query.word("purpose", of=Purpose),
        state=query.word("state", of=CertificateState),
        batch=query.text("batch"),
        name_prefix=query.text("name"),
        ends_before=query.time("ends_before"),
        devices=None if (text := query.long_text("query")) == "" else parse_query(text).condition,
        now=asked.context.clock(),
        after=query.text("after"),
        limit=query.limit(),
    )
    found = await certificates.search(asked.context, wanted)
    following = found[-1].serial if len(found) == wanted.limit else None
    return listed([certificate_members(record) for record in found], following)


async def _show(asked: Asked) -> Members:
    view = await certificates.show(asked.context, asked.serial())
    ending = view.ending
    return {
        **certificate_members(view.record),
        "revoked_at": None if ending is None else time_text(ending.at),
        "reason": None if ending is None else ending.reason.value,
    }


async def _export(asked: Asked) -> web.Response:
    return web.Response(text=await certificates.export(asked.context, asked.serial()), content_type=_PEM_TYPE)


async def _export_chain(asked: Asked) -> web.Response:
    chain = await certificates.export_chain(asked.context, asked.serial())
    return web.Response(text=chain, content_type=_PEM_TYPE)


async def _verify(asked: Asked) -> Members:
    body = asked.body()
    wanted = Wanted(
        at=body.time("at") if "at" in body else None,
        domain=asked.domain(body.text("domain", longest=32)) if "domain" in body else "",
        purpose=body.word("purpose", of=Purpose) if "purpose" in body else None,
    )
    verdict = await verify(asked.context, body.pem("certificate"), wanted)
    return {
        "good": verdict.good,
        "standing": verdict.standing.value,
        "why": verdict.why,
        "at": time_text(verdict.at),
        "serial": verdict.serial,
        "certificate": None if verdict.record is None else certificate_members(verdict.record),
    }


async def _revoke(asked: Asked) -> Members:
    body = asked.body()
    selection, query = _selection(asked, body)
    order = RevokeOrder(selection=selection, query=query, reason=body.word("reason", of=RevocationReason))
    return _receipt(await revoke_or_propose(asked.context, order, actor=asked.actor))


def _selection(asked: Asked, body: Fields) -> tuple[Selection, str]:
    """Return what is to be revoked, said in exactly one way; and as a query, where that may be many."""
    named = [name for name in _SELECTIONS if name in body]
    match named:
        case ["device_id"]:
            domain = asked.domain(body.text("domain", longest=32))
            identity = Identity(domain=domain, device_id=body.device_id("device_id"))
            return ByDevice(identities=(identity,)), ""
        case ["serial" | "lineage" as name]:
            return BySerial(serial=body.serial(name)), ""
        case ["batch"]:
            domain = asked.domain(body.text("domain", longest=32))
            # A batch may well be all there is.
            query = f"all domain={domain} batch={parse_domain(body.text('batch', longest=32))}"
            return by_query(query, now=asked.context.clock()), query
        case ["query"]:
            query = body.text("query", longest=LONGEST_QUERY)
            return by_query(query, now=asked.context.clock()), query
        case _:
            raise MalformedMessageError(f"name what to revoke by exactly one of {', '.join(_SELECTIONS)}")


def _receipt(receipt: Receipt) -> Members:
    return {
        "revoked": receipt.revoked,
        "names": receipt.names,
        "sessions": [cut_off(session) for session in receipt.sessions],
        "verified": receipt.verified,
        "problem": receipt.problem or None,
    }


def cut_off(session: CutOff) -> Members:
    """Return a dropped session as JSON."""
    return {
        "broker": session.broker,
        "name": session.name,
        "serial": session.serial,
        "cut_off_ms": round(session.cut_off_ms, 3),
    }


def certificate_members(record: CertificateRecord) -> Members:
    """Return a certificate's record as JSON."""
    signed = record.signed
    return {
        "serial": record.serial,
        "purpose": record.purpose.value,
        "name": record.name,
        "domain": record.domain,
        "device_id": record.device_id,
        "batch": record.batch,
        "state": record.state.value,
        "parent": record.life.parent,
        "attempt": record.life.attempt,
        "key_hash": record.life.key_hash,
        "issuer": record.issuer,
        "fingerprint": None if signed is None else signed.fingerprint,
        "profile": None if signed is None else signed.profile,
        "not_before": time_or_none(None if signed is None else signed.not_before),
        "not_after": time_or_none(None if signed is None else signed.not_after),
        "created_at": time_text(record.created_at),
        "changed_at": time_text(record.changed_at),
    }

"""Operators' routes of the audit trail."""

from device_agent.wire.fields import time_text
from device_agent.wire.identity import parse_serial
from fleet.core import trace
from fleet.model import Role
from fleet.ra.health import notary_of
from fleet.ra.keeping.reconciling import reconcile
from fleet.ra.people import audits
from fleet.store.audit import AuditQuery, StoredEntry
from fleet.web.api.asked import MAX_PAGE, Asked
from fleet.web.api.routes import Members, One, Page, Route, listed


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="GET",
            path="audit",
            role=Role.VIEWER,
            handler=_search,
            about="Entries of the audit trail, oldest first.",
            query=("domain", "device_id", "serial", "actor", "action"),
            answer=Page("Entry"),
        ),
        Route(
            method="GET",
            path="audit/tail",
            role=Role.VIEWER,
            handler=_tail,
            about="The newest entries, the last one last.",
            query=("count",),
            answer=One("Entries"),
        ),
        Route(
            method="GET",
            path="audit/verify",
            role=Role.VIEWER,
            handler=_verify,
            about="Check every entry against the signed heads.",
            answer=One("AuditVerdict"),
        ),
        Route(
            method="GET",
            path="audit/records",
            role=Role.VIEWER,
            handler=_records,
            about="Compare the record of each device with what the trail tells of it.",
            answer=One("AuditRecords"),
        ),
    )


async def _tail(asked: Asked) -> Members:
    count = asked.query().number("count", default=20, lowest=1, highest=MAX_PAGE)
    return listed([entry_members(entry) for entry in await audits.tail(asked.context.store, count)])


async def _search(asked: Asked) -> Members:
    query = asked.query()
    serial = query.text("serial")
    wanted = AuditQuery(
        domain=query.domain("domain"),
        device_id=query.text("device_id"),
        serial=parse_serial(serial) if serial else "",
        actor=query.text("actor"),
        action=query.text("action"),
        after=query.number("after", default=-1, lowest=-1, highest=2**62),
        limit=query.limit(),
    )
    found = await audits.search(asked.context.store, wanted)
    following = str(found[-1].number) if len(found) == wanted.limit else None
    return listed([entry_members(entry) for entry in found], following)


async def _verify(asked: Asked) -> Members:
    verdict = await audits.verify(asked.context.store, notary_of(asked.context))
    newest = verdict.newest
    return {
        "whole": verdict.is_whole,
        "size": verdict.size,
        "heads": verdict.heads,
        "archived": verdict.archived,
        "root": None if newest is None else newest.head.root.hex(),
        "signed_at": None if newest is None else time_text(newest.head.at),
        "findings": [
            {"first": finding.first, "last": finding.last, "text": finding.text}
            for finding in verdict.findings
        ],
    }


async def _records(asked: Asked) -> Members:
    found = await reconcile(asked.context)
    return {
        "devices": found.devices,
        "differences": [{"name": one.name, "what": list(one.what)} for one in found.differences],
    }


def entry_members(stored: StoredEntry) -> Members:
    """Return an entry as JSON, for people: what a restore goes by is in the export alone."""
    entry = stored.entry
    return {
        "number": stored.number,
        "at": time_text(entry.at),
        "action": entry.action,
        "actor": entry.actor,
        "domain": entry.domain,
        "device_id": entry.device_id,
        "serial": entry.serial,
        "details": {name: value for name, value in entry.details if name != trace.DETAIL},
    }

"""Operators' routes of leases: what stations may sign off line."""

from device_agent.wire.fields import time_text
from fleet.core.lease import MOST_DAYS
from fleet.core.station_rules import MOST_UNITS
from fleet.model import Role
from fleet.ra.requests import leases
from fleet.ra.requests.leases import LeaseOrder, LeaseView
from fleet.web.api.asked import Asked, page_of
from fleet.web.api.routes import Members, One, Page, Route, listed, time_or_none


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="GET",
            path="stations/leases",
            role=Role.VIEWER,
            handler=_list,
            about="Leases, by name; closed ones too.",
            query=("station",),
            answer=Page("Lease"),
        ),
        Route(
            method="POST",
            path="stations/{name}/lease",
            role=Role.SECURITY,
            handler=_grant,
            about="Let a station sign so many certificates off line, with a CA of its own.",
            body=("batch", "units", "days", "csr"),
            needs=frozenset({"batch", "units", "days", "csr"}),
            answer=One("GrantedLease"),
        ),
        Route(
            method="POST",
            path="stations/leases/{lease}/close",
            role=Role.SECURITY,
            handler=_close,
            about="Close a lease for good: nothing that comes under it later is admitted.",
            answer=One("Lease"),
        ),
    )


async def _list(asked: Asked) -> Members:
    query = asked.query()
    everything = await leases.list_leases(asked.context, query.text("station"))
    found, following = page_of(everything, query, key=lambda view: view.lease.lease)
    return listed([_lease(view) for view in found], following)


async def _grant(asked: Asked) -> Members:
    body = asked.body()
    order = LeaseOrder(
        station=asked.request.match_info["name"],
        batch=body.text("batch", longest=32),
        count=body.integer("units", lowest=1, highest=MOST_UNITS),
        days=body.integer("days", lowest=1, highest=MOST_DAYS),
        csr=body.pem("csr"),
        actor=asked.actor,
    )
    record, signed = await leases.grant_lease(asked.context, order)
    return {**_lease(LeaseView(lease=record, used=0)), "signed": signed.encode().decode("ascii")}


async def _close(asked: Asked) -> Members:
    lease = asked.request.match_info["lease"]
    return _lease(await leases.close_lease(asked.context, lease, actor=asked.actor))


def _lease(view: LeaseView) -> Members:
    lease = view.lease
    return {
        "lease": lease.lease,
        "station": lease.station,
        "domain": lease.domain,
        "batch": lease.batch,
        "first": lease.first,
        "units": lease.count,
        "used": view.used,
        "issued_at": time_text(lease.issued_at),
        "not_after": time_text(lease.not_after),
        "closed_at": time_or_none(lease.closed_at),
    }

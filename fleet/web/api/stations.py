"""Operators' routes of factory stations: what each may do, and who works there."""

from device_agent.wire.fields import Fields, time_text
from device_agent.wire.secret import Secret
from fleet.core.badge import LONGEST
from fleet.core.station_change import RuleChange
from fleet.core.station_rules import MOST_A_MINUTE, RuleTexts, texts_of
from fleet.model import Role
from fleet.ra.own.station_renewal import certify_again
from fleet.ra.people import line_operators, stations
from fleet.ra.people.stations import StationOrder
from fleet.store.line_operators import LineOperatorRecord
from fleet.store.stations import StationRecord
from fleet.web.api.asked import Asked, page_of
from fleet.web.api.routes import Members, One, Page, Route, listed, time_or_none

_RULES = ("batches", "quotas", "serials", "shifts", "rate")
_LONGEST_RULE = 160
_LONGEST_REASON = 200


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="GET",
            path="stations",
            role=Role.VIEWER,
            handler=_list,
            about="Factory stations, by name.",
            query=("domain",),
            answer=Page("Station"),
        ),
        Route(
            method="POST",
            path="stations",
            role=Role.SECURITY,
            handler=_add,
            about="Add a station, and certify the key that it made.",
            body=("name", "domain", "csr", *_RULES),
            needs=frozenset({"name", "domain", "csr", "batches"}),
            answer=One("NewStation"),
        ),
        *_of_one(),
        *_of_operators(),
    )


def _of_one() -> tuple[Route, ...]:
    return (
        Route(
            method="POST",
            path="stations/{name}/rules",
            role=Role.SECURITY,
            handler=_change,
            about="Change what is named of a station's rules; what it used stays counted.",
            body=_RULES,
            answer=One("Station"),
        ),
        Route(
            method="POST",
            path="stations/{name}/certify",
            role=Role.SECURITY,
            handler=_certify,
            about="Certify another key of a station whose certificate has ended, by its request.",
            body=("csr",),
            needs=frozenset({"csr"}),
            answer=One("CertifiedStation"),
        ),
        Route(
            method="POST",
            path="stations/{name}/revoke",
            role=Role.SECURITY,
            handler=_revoke,
            about="Close a station for good, and revoke its certificates: its next request is refused.",
            body=("reason",),
            answer=One("RevokedStation"),
        ),
        Route(
            method="POST",
            path="stations/{name}/journal",
            role=Role.SECURITY,
            handler=_begin_journal,
            about="Take another journal from a station from now on: its disk was lost.",
            body=("reason",),
            needs=frozenset({"reason"}),
            answer=One("Station"),
        ),
    )


def _of_operators() -> tuple[Route, ...]:
    return (
        Route(
            method="GET",
            path="stations/{name}/operators",
            role=Role.VIEWER,
            handler=_list_operators,
            about="Who works, or worked, at a station, by name.",
            answer=Page("LineOperator"),
        ),
        Route(
            method="POST",
            path="stations/{name}/operators",
            role=Role.OPERATOR,
            handler=_add_operator,
            about="Let somebody work at a station; of the badge or PIN a verifier is kept.",
            body=("name", "badge"),
            needs=frozenset({"name", "badge"}),
            answer=One("LineOperator"),
        ),
        Route(
            method="POST",
            path="stations/{name}/operators/{operator}/remove",
            role=Role.OPERATOR,
            handler=_remove_operator,
            about="Let somebody work at a station no more, from its next sync on.",
            answer=One("RemovedLineOperator"),
        ),
    )


async def _list(asked: Asked) -> Members:
    query = asked.query()
    everything = await stations.list_stations(asked.context, query.domain("domain"))
    found, following = page_of(everything, query, key=lambda station: station.name)
    return listed([_station(station) for station in found], following)


async def _add(asked: Asked) -> Members:
    body = asked.body()
    order = StationOrder(
        name=body.text("name", longest=32),
        domain=asked.domain(body.text("domain", longest=32)),
        rules=_rules(body),
        csr=body.pem("csr"),
        actor=asked.actor,
    )
    new = await stations.add_station(asked.context, order)
    return {
        **_station(new.station),
        "serial": new.own.issued.serial,
        "certificate": new.own.certificate_pem,
    }


async def _change(asked: Asked) -> Members:
    return _station(
        await stations.change_rules(asked.context, _name(asked), _change_of(asked.body()), actor=asked.actor)
    )


async def _certify(asked: Asked) -> Members:
    csr = asked.body().pem("csr")
    made = await certify_again(asked.context, _name(asked), csr, actor=asked.actor)
    return {"station": _name(asked), "serial": made.serial, "certificate": made.certificate_pem}


async def _revoke(asked: Asked) -> Members:
    body = asked.body()
    reason = body.text("reason", longest=_LONGEST_REASON) if "reason" in body else ""
    revoked = await stations.close_station(asked.context, _name(asked), actor=asked.actor, reason=reason)
    return {"station": _name(asked), "revoked": revoked}


async def _begin_journal(asked: Asked) -> Members:
    reason = asked.body().text("reason", longest=_LONGEST_REASON)
    return _station(
        await stations.begin_journal(asked.context, _name(asked), actor=asked.actor, reason=reason)
    )


async def _list_operators(asked: Asked) -> Members:
    everybody = await line_operators.list_line_operators(asked.context, _name(asked))
    found, following = page_of(everybody, asked.query(), key=lambda each: each.name)
    return listed([_operator(each) for each in found], following)


async def _add_operator(asked: Asked) -> Members:
    body = asked.body()
    added = await line_operators.add_line_operator(
        asked.context,
        _name(asked),
        body.text("name", longest=64),
        badge=Secret(body.text("badge", longest=LONGEST)),
        actor=asked.actor,
    )
    return _operator(added)


async def _remove_operator(asked: Asked) -> Members:
    operator = asked.request.match_info["operator"]
    await line_operators.remove_line_operator(asked.context, _name(asked), operator, actor=asked.actor)
    return {"station": _name(asked), "operator": operator}


def _name(asked: Asked) -> str:
    return asked.request.match_info["name"]


def _rules(body: Fields) -> RuleTexts:
    return RuleTexts(
        batches=_texts(body, "batches"),
        quotas=_texts(body, "quotas"),
        serials=_texts(body, "serials"),
        shifts=_texts(body, "shifts"),
        rate_per_minute=body.integer("rate", lowest=1, highest=MOST_A_MINUTE) if "rate" in body else None,
    )


def _change_of(body: Fields) -> RuleChange:
    return RuleChange(
        batches=_texts(body, "batches"),
        quotas=_texts(body, "quotas"),
        serials=_texts(body, "serials"),
        shifts=_texts(body, "shifts"),
        rate_per_minute=body.integer("rate", lowest=0, highest=MOST_A_MINUTE) if "rate" in body else None,
    )


def _texts(body: Fields, name: str) -> tuple[str, ...]:
    return body.texts(name, longest=_LONGEST_RULE) if name in body else ()


def _station(station: StationRecord) -> Members:
    texts = texts_of(station.rules)
    return {
        "station": station.name,
        "domain": station.domain,
        "batches": texts.batches,
        "quotas": texts.quotas,
        "serials": texts.serials,
        "shifts": texts.shifts,
        "rate": texts.rate_per_minute,
        "added_at": time_text(station.added_at),
        "synced_at": time_or_none(station.synced_at),
        "closed_at": time_or_none(station.closed_at),
    }


def _operator(operator: LineOperatorRecord) -> Members:
    return {
        "station": operator.station,
        "operator": operator.name,
        "added_at": time_text(operator.added_at),
        "removed_at": time_or_none(operator.removed_at),
    }

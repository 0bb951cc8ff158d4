"""Operators' routes of operators: who may act, and how far.

The key of a new operator leaves the server once, in the answer to whoever added him.
"""

from device_agent.wire.fields import time_text
from fleet.model import Role
from fleet.ra.acts.adding import add_or_propose
from fleet.ra.people import operators
from fleet.store.operators import OperatorRecord
from fleet.web.api.asked import Asked, page_of
from fleet.web.api.routes import Members, One, Page, Route, listed, time_or_none

_LONGEST_REASON = 200


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="GET",
            path="whoami",
            role=Role.VIEWER,
            handler=_whoami,
            about="Who asks, in which role, of which fleet.",
            answer=One("Self"),
        ),
        Route(
            method="GET",
            path="operators",
            role=Role.VIEWER,
            handler=_list,
            about="Operators, by name; removed ones too.",
            answer=Page("Operator"),
        ),
        Route(
            method="POST",
            path="operators",
            role=Role.SECURITY,
            handler=_add,
            about="Add an operator; the key is in the answer, and nowhere else.",
            body=("name", "role"),
            needs=frozenset({"name", "role"}),
            answer=One("NewOperator"),
        ),
        Route(
            method="POST",
            path="operators/{name}/remove",
            role=Role.SECURITY,
            handler=_remove,
            about="Remove an operator for good, and revoke the certificates.",
            body=("reason",),
            answer=One("RemovedOperator"),
        ),
    )


async def _whoami(asked: Asked) -> Members:
    context, operator = asked.context, asked.operator
    return {
        "operator": operator.name,
        "role": operator.role.value,
        "fleet": context.fleet,
        "domains": [domain.name for domain in context.config.domains],
    }


async def _list(asked: Asked) -> Members:
    everybody = await operators.list_operators(asked.context)
    found, following = page_of(everybody, asked.query(), key=lambda each: each.name)
    return listed([_operator(each) for each in found], following)


async def _add(asked: Asked) -> Members:
    body = asked.body()
    role, name = body.word("role", of=Role), body.text("name", longest=32)
    new = await add_or_propose(asked.context, name, role=role, actor=asked.actor)
    return {
        **_operator(new.operator),
        "serial": new.own.issued.serial,
        "certificate": new.own.certificate_pem,
        "key": new.own.key_pem.decode(),
    }


async def _remove(asked: Asked) -> Members:
    body, name = asked.body(), asked.request.match_info["name"]
    reason = body.text("reason", longest=_LONGEST_REASON) if "reason" in body else ""
    revoked = await operators.remove_operator(asked.context, name, actor=asked.actor, reason=reason)
    return {"operator": name, "revoked": revoked}


def _operator(operator: OperatorRecord) -> Members:
    return {
        "operator": operator.name,
        "role": operator.role.value,
        "added_at": time_text(operator.added_at),
        "removed_at": time_or_none(operator.removed_at),
    }

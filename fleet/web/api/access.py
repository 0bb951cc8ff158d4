"""Operators' routes of the access policy: read, checked, tried, put in force, explained and taken back."""

from device_agent.wire.fields import time_text
from device_agent.wire.identity import parse_serial
from fleet.access_file import DEFAULT_TEXT, LARGEST
from fleet.core.policy import Decided, Rule
from fleet.errors import BadInputError
from fleet.grants import Action
from fleet.model import Role
from fleet.ra.requests import access_policy, access_trial
from fleet.ra.requests.access_policy import AppliedAccess, Checked
from fleet.ra.requests.access_trial import AccessDifference, AccessExplained, Question
from fleet.ra.requests.access_users import After, Client, clients
from fleet.store.access_policies import PolicyRecord
from fleet.web.api.asked import Asked, page_of
from fleet.web.api.routes import Handler, Members, One, Page, Route, listed, time_or_none

_MOST_NUMBER = 10**9


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="GET",
            path="access",
            role=Role.VIEWER,
            handler=_show,
            about="The access policy in force; number 0 is the default one, which nobody wrote.",
            answer=One("AccessPolicy"),
        ),
        Route(
            method="GET",
            path="access/history",
            role=Role.VIEWER,
            handler=_history,
            about="Every access policy that was in force, the last one first.",
            answer=Page("AccessVersion"),
        ),
        Route(
            method="GET",
            path="devices/{domain}/{device_id}/access",
            role=Role.VIEWER,
            handler=_explain,
            about="Whether a device may publish or subscribe to a topic, by which rule, and what helps.",
            query=("verb", "topic"),
            needs=frozenset({"verb", "topic"}),
            answer=One("AccessExplained"),
        ),
        Route(
            method="GET",
            path="access/users",
            role=Role.VIEWER,
            handler=_users,
            about="Who each admitted certificate of a device is at relying parties, by serial.",
            answer=Page("AccessUser"),
        ),
        *_of_changes(),
    )


def _of_changes() -> tuple[Route, ...]:
    return (
        _of_file(
            "check",
            Role.OPERATOR,
            _check,
            "Read an access policy, and judge it on this fleet.",
            "AccessChecked",
        ),
        _of_file(
            "test", Role.OPERATOR, _test, "Try an access policy on the recorded traffic.", "AccessTrial"
        ),
        _of_file("apply", Role.SECURITY, _apply, "Put an access policy in force, now.", "AccessApplied"),
        Route(
            method="POST",
            path="access/rollback",
            role=Role.SECURITY,
            handler=_rollback,
            about="Put an earlier access policy in force again; 0 is the default one.",
            body=("number",),
            needs=frozenset({"number"}),
            answer=One("AccessApplied"),
        ),
    )


def _of_file(verb: str, role: Role, handler: Handler, about: str, shape: str) -> Route:
    return Route(
        method="POST",
        path=f"access/{verb}",
        role=role,
        handler=handler,
        about=f"{about} An empty body is the home's access.toml.",
        file="application/toml",
        longest=LARGEST,
        answer=One(shape),
    )


async def _show(asked: Asked) -> Members:
    record = await access_policy.access_in_force(asked.context)
    text = DEFAULT_TEXT if record is None else record.text
    checked = await access_policy.rules_in_use(asked.context, text)
    return {
        "number": 0 if record is None else record.number,
        "text": text,
        "applied_at": None if record is None else time_text(record.applied_at),
        "actor": None if record is None else record.actor,
        "differs": access_policy.file_differs(asked.context, text),
        **_checked(checked),
    }


async def _history(asked: Asked) -> Members:
    found = await access_policy.history(asked.context)
    page, following = page_of(found, asked.query(), key=lambda each: f"{_MOST_NUMBER - each.number:010}")
    return listed([_version(each) for each in page], following)


async def _users(asked: Asked) -> Members:
    query = asked.query()
    after = query.text("after")
    page = After(serial=parse_serial(after) if after else "", limit=query.limit())
    found = await clients(asked.context, page)
    following = found[-1].entry.serial if len(found) == page.limit else None
    return listed([_user(one) for one in found], following)


def _user(client: Client) -> Members:
    entry = client.entry
    return {
        "name": entry.name,
        "serial": entry.serial,
        "issuer": entry.issuer,
        "fingerprint": entry.fingerprint,
        "not_after": time_text(entry.not_after),
        "users": list(client.users),
        "roles": list(client.roles),
    }


async def _check(asked: Asked) -> Members:
    return _checked(await access_policy.check_access(asked.context, asked.file()))


async def _test(asked: Asked) -> Members:
    trial = await access_trial.try_access(asked.context, asked.file())
    return {
        "decisions": trial.decisions,
        "since": time_or_none(trial.since),
        "different": trial.different,
        "items": [_difference(each) for each in trial.differences],
    }


async def _apply(asked: Asked) -> Members:
    return _applied(await access_policy.apply_access(asked.context, asked.file(), actor=asked.actor))


async def _rollback(asked: Asked) -> Members:
    number = asked.body().integer("number", lowest=0, highest=_MOST_NUMBER)
    return _applied(await access_policy.rollback_access(asked.context, number, actor=asked.actor))


async def _explain(asked: Asked) -> Members:
    query = asked.query()
    action = query.word("verb", of=Action)
    topic = query.text("topic")
    if action is None or not topic:
        raise BadInputError("verb and topic must be there", hint="verb: publish or subscribe")
    question = Question(identity=asked.known(asked.identity()), action=action, topic=topic)
    found = await access_trial.explain_access(asked.context, question)
    return {
        "domain": question.identity.domain,
        "device_id": question.identity.device_id,
        "verb": action.value,
        "topic": topic,
        **_explained(found),
    }


def _explained(found: AccessExplained) -> Members:
    return {
        "admitted": found.admitted,
        **_decided(found.decided),
        "facts": {name: sorted(values) for name, values in sorted(found.facts.items())},
        "lacking": [{**_rule(rule), "conditions": list(unmet)} for rule, unmet in found.lacking],
        "roles": sorted(found.roles),
        "users": sorted(found.users),
    }


def _decided(decided: Decided) -> Members:
    return {
        "allowed": decided.allowed,
        "protocols": decided.protocols,
        "rule": None if decided.rule is None else decided.rule.name,
        "line": None if decided.by is None else decided.by.line,
        "pattern": None if decided.by is None else decided.by.text,
    }


def _rule(rule: Rule) -> Members:
    return {"rule": rule.name, "line": rule.line}


def _checked(checked: Checked) -> Members:
    return {
        "digest": checked.digest,
        "asks": list(checked.policy.asks),
        "rules": [
            {"rule": each.name, "effect": each.effect, "line": each.line, "certificates": each.certificates}
            for each in checked.rules
        ],
    }


def _applied(applied: AppliedAccess) -> Members:
    return {
        "number": applied.number,
        "changed": applied.changed,
        "digest": applied.digest,
        "everywhere": applied.everywhere,
    }


def _version(record: PolicyRecord) -> Members:
    return {
        "number": record.number,
        "digest": record.digest,
        "applied_at": time_text(record.applied_at),
        "actor": record.actor,
        "text": record.text,
    }


def _difference(found: AccessDifference) -> Members:
    kept = found.kept
    return {
        "name": kept.decision.name,
        "verb": kept.decision.action.value,
        "topic": kept.decision.topic,
        "before": _decided(found.before),
        "after": _decided(found.after),
        "times": kept.times,
        "last_at": time_text(kept.last_at),
    }

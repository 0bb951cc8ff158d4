"""Operators' routes of what people are told: notifications, their deliveries, tests."""

from device_agent.wire.fields import time_text
from fleet.core.delivery import DeliveryState
from fleet.core.letter import Item
from fleet.core.matters import Matter, Severity, event_type
from fleet.errors import NotFoundError
from fleet.model import Role
from fleet.ra.telling import reading, trying
from fleet.ra.telling.reading import Notification
from fleet.ra.telling.trying import Trial
from fleet.store.deliveries import Delivery, NotificationQuery, NotificationRow
from fleet.web.api.asked import Asked, Query
from fleet.web.api.notification_shapes import Acked, Weight
from fleet.web.api.routes import Members, One, Page, Route, listed, time_or_none

_HIGHEST = 2**62
_LONGEST_REASON = 200
_LONGEST_NAME = 64


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="GET",
            path="notifications",
            role=Role.VIEWER,
            handler=_list,
            about="What people were told, the newest first, and whether it reached them.",
            query=("rule", "matter", "severity", "delivery", "acked"),
            answer=Page("Notification"),
        ),
        Route(
            method="GET",
            path="notifications/{notification}",
            role=Role.VIEWER,
            handler=_show,
            about="One notification, with up to a thousand of the subjects that it tells of.",
            answer=One("WholeNotification"),
        ),
        Route(
            method="POST",
            path="notifications/{notification}/ack",
            role=Role.OPERATOR,
            handler=_ack,
            about="Say that somebody has seen a notification: it is escalated to nobody else.",
            body=("reason",),
            answer=One("Notification"),
        ),
        Route(
            method="POST",
            path="notifications/test",
            role=Role.OPERATOR,
            handler=_test,
            about="Send a real notification about nothing, by a rule or on a channel, or to everybody.",
            body=("to",),
            answer=One("Trials"),
        ),
    )


async def _list(asked: Asked) -> Members:
    query = asked.query()
    wanted = _wanted(query)
    found = await reading.list_notifications(asked.context, wanted)
    following = str(found[-1].row.number) if len(found) == wanted.limit else None
    return listed([_notification(each) for each in found], following)


def _wanted(query: Query) -> NotificationQuery:
    severity, acked = query.word("severity", of=Weight), query.word("acked", of=Acked)
    return NotificationQuery(
        rule=query.text("rule"),
        matter=query.word("matter", of=Matter),
        severity=Severity.INFO if severity is None else Severity.of(severity),
        state=query.word("delivery", of=DeliveryState),
        is_acked=None if acked is None else acked is Acked.YES,
        before=query.number("after", default=_HIGHEST, lowest=1, highest=_HIGHEST),
        limit=query.limit(),
    )


async def _show(asked: Asked) -> Members:
    found = await reading.show(asked.context, _number(asked))
    return {**_notification(found.notification), "items": [_item(each) for each in found.items]}


async def _ack(asked: Asked) -> Members:
    body = asked.body()
    reason = body.text("reason", longest=_LONGEST_REASON) if "reason" in body else ""
    number = _number(asked)
    await reading.acknowledge(asked.context, number, actor=asked.actor, reason=reason)
    return _notification((await reading.show(asked.context, number)).notification)


async def _test(asked: Asked) -> Members:
    body = asked.body()
    name = body.text("to", longest=_LONGEST_NAME) if "to" in body else ""
    trials = await trying.send_test(asked.context, name, actor=asked.actor)
    return listed([_trial(each) for each in trials])


def _number(asked: Asked) -> int:
    text = asked.request.match_info["notification"]
    if text.isascii() and text.isdecimal() and len(text) < 19:
        return int(text)
    raise NotFoundError("a notification is named by its number", hint="fleet notice list")


def _notification(found: Notification) -> Members:
    return {**_row(found.row), "deliveries": [_delivery(each) for each in found.deliveries]}


def _row(row: NotificationRow) -> Members:
    return {
        "notification": row.number,
        "id": row.id,
        "rule": row.rule,
        "matter": row.matter.value,
        "type": event_type(row.matter),
        "severity": row.severity.word,
        "owner": row.audience or None,
        "count": row.items,
        "made_at": time_text(row.made_at),
        "escalated": row.stage,
        "acked_at": time_or_none(row.acked_at),
        "acked_by": row.acked_by or None,
        "reason": row.reason or None,
    }


def _delivery(one: Delivery) -> Members:
    return {
        "receiver": str(one.receiver),
        "escalation": one.stage,
        "state": one.state.value,
        "attempts": one.attempts,
        "next_at": time_text(one.next_at) if one.state is DeliveryState.WAITING else None,
        "changed_at": time_text(one.changed_at),
        "answer": one.answer or None,
    }


def _item(item: Item) -> Members:
    return {
        "change": item.change.value,
        "subject": item.subject,
        "text": item.text,
        "severity": item.severity.word,
        "at": time_text(item.at),
    }


def _trial(trial: Trial) -> Members:
    return {
        "receiver": str(trial.receiver),
        "rule": trial.rule,
        "arrived": trial.arrived,
        "answer": trial.answer,
        "hint": trial.hint or None,
    }

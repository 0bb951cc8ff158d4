"""`fleet notice ...`: what people were told, whether it reached them, and who has seen it."""

import click

from fleet.cli import options
from fleet.cli.client import Client, with_client
from fleet.cli.options import Place
from fleet.cli.output import Column, Form, Json, Members, items_of, say, show_list, show_record, write_text
from fleet.core.delivery import DeliveryState
from fleet.core.matters import Matter, Severity
from fleet.errors import ExitCode

_COLUMNS = (
    Column(title="NUMBER", member="notification", whole=True),
    Column(title="MADE", member="made_at", whole=True),
    Column(title="SEVERITY", member="severity", whole=True),
    Column(title="EVENT", member="matter", whole=True),
    Column(title="ABOUT", member="count"),
    Column(title="SEEN BY", member="acked_by"),
    Column(title="DELIVERIES", member="told"),
)
_NAMES = {
    "notification": "number",
    "id": "id",
    "made_at": "made",
    "severity": "severity",
    "type": "event",
    "rule": "rule",
    "owner": "owner",
    "count": "subjects",
    "escalated": "escalations",
    "acked_by": "seen by",
    "acked_at": "seen",
    "reason": "reason",
}
_DELIVERIES = (
    Column(title="RECEIVER", member="receiver"),
    Column(title="STATE", member="state", whole=True),
    Column(title="TRIED", member="attempts"),
    Column(title="CHANGED", member="changed_at", whole=True),
    Column(title="ANSWER", member="answer"),
)
_ITEMS = (
    Column(title="CHANGE", member="change", whole=True),
    Column(title="SUBJECT", member="subject"),
    Column(title="WHAT", member="text"),
)
_TRIALS = (
    Column(title="RECEIVER", member="receiver"),
    Column(title="RULE", member="rule"),
    Column(title="ARRIVED", member="arrived", whole=True),
    Column(title="ANSWER", member="answer"),
)


@click.group()
def command() -> None:
    """What people are told: of what and whom, the rules and channels of [notice] in fleet.toml say."""


@command.command("list")
@options.listing
@options.limit(100)
@click.option(
    "--state",
    type=click.Choice([state.value for state in DeliveryState]),
    help="Only with a delivery that stands so; dead: it was given up.",
)
@click.option("--rule", metavar="RULE", help="Only by one rule.")
@click.option("--event", type=click.Choice([each.value for each in Matter]), help="Only about one event.")
@click.option("--severity", type=click.Choice([each.word for each in Severity]), help="That, or graver.")
@click.option("--unseen", "acked", flag_value="no", help="Only what nobody has acknowledged.")
@click.option("--seen", "acked", flag_value="yes", help="Only what somebody has acknowledged.")
def list_notifications(
    home: Place,
    form: Form,
    *,
    limit: int | None,
    state: str | None,
    rule: str | None,
    event: str | None,
    severity: str | None,
    acked: str | None,
) -> None:
    """List what people were told, the newest first."""

    def act(client: Client) -> None:
        found = client.items(
            "notifications",
            limit=limit,
            delivery=state,
            rule=rule,
            matter=event,
            severity=severity,
            acked=acked,
        )
        rows = map(_row, found) if form is Form.TABLE else found
        show_list(rows, form, columns=_COLUMNS, empty="nobody was told of anything")

    with_client(home, act)


@command.command()
@options.record
@click.argument("number", type=click.IntRange(1), metavar="NUMBER")
def show(home: Place, form: Form, *, number: int) -> None:
    """Show a notification: what it tells, to whom it went, and what they said."""
    found = with_client(home, lambda client: client.get("notifications", str(number)))
    show_record(found, form, names=_NAMES)
    if form is Form.TABLE:
        for members, columns in ((found["deliveries"], _DELIVERIES), (found["items"], _ITEMS)):
            write_text("")
            show_list(items_of(members), form, columns=columns, empty="none")


@command.command()
@options.record
@options.reason
@click.argument("number", type=click.IntRange(1), metavar="NUMBER")
def ack(home: Place, form: Form, *, reason: str, number: int) -> None:
    """Say that you have seen a notification: nobody else is told of it."""
    body = {"reason": reason} if reason else {}
    found = with_client(home, lambda client: client.post("notifications", str(number), "ack", body=body))
    show_record(found, form, names={"notification": "number", "acked_by": "seen by", "acked_at": "seen"})


@command.command()
@options.listing
@click.argument("name", required=False, metavar="[RULE|CHANNEL]")
@click.pass_context
def test(context: click.Context, home: Place, form: Form, *, name: str | None) -> None:
    """Send a real message by a rule, on a channel, or to everybody, and tell what came of it.

    Exit code 7: one did not arrive.
    """
    body = {"to": name} if name else {}
    found = with_client(home, lambda client: client.post("notifications", "test", body=body))
    trials = items_of(found["items"])
    show_list(trials, form, columns=_TRIALS)
    for hint in dict.fromkeys(str(trial["hint"]) for trial in trials if trial["hint"]):
        if form is Form.TABLE:
            say(f"hint: {hint}")
    context.exit(ExitCode.DONE if all(trial["arrived"] for trial in trials) else ExitCode.NEEDS_ATTENTION)


def _row(found: Members) -> Members:
    counts: dict[str, int] = {}
    for delivery in items_of(found["deliveries"]):
        counts[str(delivery["state"])] = counts.get(str(delivery["state"]), 0) + 1
    told: Json = ", ".join(f"{count} {state}" for state, count in counts.items())
    return {**found, "told": told}

"""`fleet connection ...`: who connected, left or was refused, and when."""

import click

from fleet.cli import options
from fleet.cli.client import Client, with_client
from fleet.cli.options import Place
from fleet.cli.output import Column, Form, Members, show_list
from fleet.cli.since import moment
from fleet.core.causes import Cause
from fleet.errors import UsageError
from fleet.model import BrokerEventKind

COLUMNS = (
    Column(title="LAST", member="last_at", whole=True),
    Column(title="WHAT", member="kind", whole=True),
    Column(title="CAUSE", member="why"),
    Column(title="WHO", member="who", whole=True),
    Column(title="ADDRESS", member="address", whole=True),
    Column(title="TIMES", member="times"),
    Column(title="SEEN BY", member="place"),
    Column(title="CERTIFICATE", member="serial", whole=True),
)


@click.group()
def command() -> None:
    """The connection history: every connection, end and refusal that brokers and listeners saw."""


@command.command(name="list")
@options.listing
@options.domain
@options.limit(100)
@click.option("--device", metavar="DEVICE", help="Only of a device.")
@click.option("--serial", metavar="SERIAL", help="Only with a certificate.")
@click.option("--address", metavar="NET", help="Only from an address, or a network such as 10.1.0.0/16.")
@click.option("--event", type=click.Choice([one.value for one in BrokerEventKind]), help="Only one kind.")
@click.option("--cause", type=click.Choice([cause.value for cause in Cause]), help="Only refused for it.")
@click.option("--place", metavar="WHERE", help="Only seen there, such as mosquitto, https or log:web.")
@click.option("--since", metavar="TIME", help="Only later: 2026-05-01T12:00:00Z, or 90m, 36h, 7d ago.")
@click.option("--until", metavar="TIME", help="Only earlier.")
def list_(
    home: Place,
    form: Form,
    *,
    domain: str | None,
    limit: int | None,
    device: str | None,
    serial: str | None,
    address: str | None,
    event: str | None,
    cause: str | None,
    place: str | None,
    since: str | None,
    until: str | None,
) -> None:
    """List contacts, the newest first. What repeats within ten minutes is one row, with how many TIMES."""
    device_id = None
    if device is not None:
        domain, device_id = options.identity_of(home, device, domain)
    if cause is not None and event not in {None, BrokerEventKind.REFUSED.value}:
        raise UsageError("only refusals have a cause", hint="leave --event out")

    def act(client: Client) -> None:
        found = client.items(
            "connections",
            limit=limit,
            domain=domain,
            device_id=device_id,
            serial=serial,
            network=address,
            event=event,
            cause=cause,
            place=place,
            since=moment(since),
            until=moment(until),
        )
        shown = found if form is not Form.TABLE else map(for_people, found)
        show_list(shown, form, columns=COLUMNS, empty="nothing fits")

    with_client(home, act)


def for_people(row: Members) -> Members:
    """Return a row with who it was and why in one word each."""
    return {**row, "who": who(row), "why": row.get("cause") or row.get("ending")}


def who(row: Members) -> str:
    """Return the device of a row, or what its certificate was called."""
    if row["device_id"]:
        return f"{row['domain']}:{row['device_id']}"
    return str(row["name"])

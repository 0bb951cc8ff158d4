"""`fleet move ...`: devices on their way to another domain, to other hardware, to the workshop and back."""

import click

from fleet.cli import options
from fleet.cli.client import with_client
from fleet.cli.options import Place
from fleet.cli.output import Column, Form, Members, say, show_list, show_record

_COLUMNS = (
    Column(title="DEVICE", member="device_id", whole=True),
    Column(title="DOMAIN", member="domain"),
    Column(title="MOVE", member="move"),
    Column(title="STATE", member="state"),
    Column(title="TO", member="to_domain"),
    Column(title="SINCE", member="changed_at"),
    Column(title="BY", member="started_by"),
)
_NAMES = {
    "device_id": "device",
    "domain": "domain",
    "move": "move",
    "state": "state",
    "to_domain": "to",
    "changed_at": "since",
    "started_by": "by",
    "code": "code",
    "expires": "expires",
    "sessions": "sessions ended",
}
_days = click.option(
    "--days", type=click.IntRange(1, 365), metavar="N", help="How long the code is good for [7]."
)


@click.group()
def command() -> None:
    """Devices on their way: to another domain, to other hardware, to the workshop and back.

    A code is shown once; the hardware that is to have the new certificate enrolls with it. The server ends a
    move by itself when that certificate is confirmed.
    """


@command.command("list")
@options.listing
@options.domain
@click.option("--device", metavar="DEVICE", help="Only moves of a device, from or to what it is.")
@click.option("--all", "ended", is_flag=True, help="Those that have ended, too.")
def list_moves(home: Place, form: Form, *, domain: str | None, device: str | None, ended: bool) -> None:
    """List devices on their way, the oldest first."""
    name = None if device is None else ":".join(options.identity_of(home, device, domain))
    with_client(
        home,
        lambda client: show_list(
            client.items("moves", name=name, open=None if ended or name else "yes"),
            form,
            columns=_COLUMNS,
            empty="no device is on its way",
        ),
    )


@command.command()
@options.record
@options.domain
@options.device
def show(home: Place, form: Form, *, domain: str | None, device: str) -> None:
    """Show where the newest move of a device stands."""
    where = options.identity_of(home, device, domain)
    show_record(with_client(home, lambda client: client.get("moves", *where)), form, names=_NAMES)


@command.command()
@options.record
@options.domain
@options.device
@click.option("--to", "to_domain", required=True, metavar="D", help="The domain that it goes to.")
@_days
@options.reason
def transfer(
    home: Place, form: Form, *, domain: str | None, device: str, to_domain: str, days: int | None, reason: str
) -> None:
    """Move a device to another domain, with all that is known of it.

    It goes on where it is until its certificate in the other domain is confirmed; then the old one goes.
    """
    given = {"to_domain": options.domain_of(home, to_domain), "days": days, "reason": reason}
    _post(home, form, options.identity_of(home, device, domain), "transfer", given)


@command.command("replace")
@options.record
@options.domain
@options.device
@_days
@options.reason
def replace_device(
    home: Place, form: Form, *, domain: str | None, device: str, days: int | None, reason: str
) -> None:
    """Let other hardware take over a device's id: all that the old one has is revoked at once, for good.

    Of a device that came back, too. The keys of the old hardware are never certified again.
    """
    where = options.identity_of(home, device, domain)
    verb = "replace" if _is_returned(home, where) else "replacement"
    _post(home, form, where, verb, {"days": days, "reason": reason})


@command.command("return")
@options.record
@options.domain
@options.device
@options.reason
def take_back(home: Place, form: Form, *, domain: str | None, device: str, reason: str) -> None:
    """Take a device back: it is kept out until it is readmitted, replaced or decommissioned."""
    _post(home, form, options.identity_of(home, device, domain), "return", {"reason": reason})


@command.command()
@options.record
@options.domain
@options.device
@options.reason
def sent(home: Place, form: Form, *, domain: str | None, device: str, reason: str) -> None:
    """Note that a returned device was sent to whoever mends it."""
    _post(home, form, options.identity_of(home, device, domain), "sent", {"reason": reason})


@command.command()
@options.record
@options.domain
@options.device
@options.reason
def readmit(home: Place, form: Form, *, domain: str | None, device: str, reason: str) -> None:
    """Let a returned device go on, with the key that it has."""
    _post(home, form, options.identity_of(home, device, domain), "readmit", {"reason": reason})


@command.command()
@options.record
@options.domain
@options.device
@_days
@options.reason
def code(home: Place, form: Form, *, domain: str | None, device: str, days: int | None, reason: str) -> None:
    """Make another code: the first was lost, or its time is over."""
    _post(home, form, options.identity_of(home, device, domain), "code", {"days": days, "reason": reason})


@command.command()
@options.record
@options.domain
@options.device
@options.reason
def cancel(home: Place, form: Form, *, domain: str | None, device: str, reason: str) -> None:
    """Give a transfer up: the device stays where it is."""
    _post(home, form, options.identity_of(home, device, domain), "cancel", {"reason": reason})


def _is_returned(home: Place, where: tuple[str, str]) -> bool:
    found = with_client(home, lambda client: list(client.items("moves", name=":".join(where), open="yes")))
    return any(each["move"] == "return" for each in found)


def _post(home: Place, form: Form, where: tuple[str, str], verb: str, given: Members) -> None:
    body = {name: value for name, value in given.items() if value}
    found = with_client(home, lambda client: client.post("moves", *where, verb, body=body))
    shown = {name: title for name, title in _NAMES.items() if name != "code" or found["code"] is not None}
    show_record(found, form, names=shown)
    if found["code"] is not None and form is Form.TABLE:
        say("hint: the code is shown this once; on the device: device-agent enroll --code-file FILE")

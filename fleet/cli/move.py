"""`fleet move ...`: devices on their way to another domain, to other hardware, to the workshop and back."""

import click

from fleet.cli import options
from fleet.cli.client import with_client
from fleet.cli.options import Place
from fleet.cli.output import Column, Form, Members, say, show_list, show_record, write_text

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

_code_only = click.option("--code-only", is_flag=True, help="Print the code and nothing else, to be piped.")


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
@_code_only
@options.reason
def transfer(
    home: Place,
    form: Form,
    *,
    domain: str | None,
    device: str,
    to_domain: str,
    days: int | None,
    code_only: bool,
    reason: str,
) -> None:
    """Move a device to another domain, with all that is known of it.

    It goes on where it is until its certificate in the other domain is confirmed; then the old one goes.
    """
    given = {"to_domain": options.domain_of(home, to_domain), "days": days, "reason": reason}
    done = _post(home, options.identity_of(home, device, domain), "transfer", given)
    _show(done, form, code_only=code_only)


@command.command("replace")
@options.record
@options.domain
@options.device
@_days
@_code_only
@options.reason
def replace_device(
    home: Place,
    form: Form,
    *,
    domain: str | None,
    device: str,
    days: int | None,
    code_only: bool,
    reason: str,
) -> None:
    """Let other hardware take over a device's id: all that the old one has is revoked at once, for good.

    Of a device that came back, too. The keys of the old hardware are never certified again.
    """
    where = options.identity_of(home, device, domain)
    verb = "replace" if _is_returned(home, where) else "replacement"
    _show(_post(home, where, verb, {"days": days, "reason": reason}), form, code_only=code_only)


@command.command("return")
@options.record
@options.domain
@options.device
@options.reason
def take_back(home: Place, form: Form, *, domain: str | None, device: str, reason: str) -> None:
    """Take a device back: it is kept out until it is readmitted, replaced or decommissioned."""
    _show(_post(home, options.identity_of(home, device, domain), "return", {"reason": reason}), form)


@command.command()
@options.record
@options.domain
@options.device
@options.reason
def sent(home: Place, form: Form, *, domain: str | None, device: str, reason: str) -> None:
    """Note that a returned device was sent to whoever mends it."""
    _show(_post(home, options.identity_of(home, device, domain), "sent", {"reason": reason}), form)


@command.command()
@options.record
@options.domain
@options.device
@options.reason
def readmit(home: Place, form: Form, *, domain: str | None, device: str, reason: str) -> None:
    """Let a returned device go on, with the key that it has."""
    _show(_post(home, options.identity_of(home, device, domain), "readmit", {"reason": reason}), form)


@command.command()
@options.record
@options.domain
@options.device
@_days
@_code_only
@options.reason
def code(
    home: Place,
    form: Form,
    *,
    domain: str | None,
    device: str,
    days: int | None,
    code_only: bool,
    reason: str,
) -> None:
    """Make another code: the first was lost, or its time is over."""
    where = options.identity_of(home, device, domain)
    _show(_post(home, where, "code", {"days": days, "reason": reason}), form, code_only=code_only)


@command.command()
@options.record
@options.domain
@options.device
@options.reason
def cancel(home: Place, form: Form, *, domain: str | None, device: str, reason: str) -> None:
    """Give a transfer up: the device stays where it is."""
    _show(_post(home, options.identity_of(home, device, domain), "cancel", {"reason": reason}), form)


def _is_returned(home: Place, where: tuple[str, str]) -> bool:
    found = with_client(home, lambda client: list(client.items("moves", name=":".join(where), open="yes")))
    return any(each["move"] == "return" for each in found)


def _post(home: Place, where: tuple[str, str], verb: str, given: Members) -> Members:
    body = {name: value for name, value in given.items() if value}
    return with_client(home, lambda client: client.post("moves", *where, verb, body=body))


def _show(moved: Members, form: Form, *, code_only: bool = False) -> None:
    if code_only:
        write_text(str(moved["code"]))
        return
    has_code = moved["code"] is not None
    names = {name: title for name, title in _NAMES.items() if has_code or name not in {"code", "expires"}}
    show_record(moved, form, names=names)
    if has_code and form is Form.TABLE:
        say("hint: the code is shown this once; on the device: device-agent enroll --code-file FILE")

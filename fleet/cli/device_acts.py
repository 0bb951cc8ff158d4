"""One act of an operator on one device, and what it says when it is done."""

import click

from fleet.cli import options, selecting
from fleet.cli.client import Client, with_client
from fleet.cli.options import Place
from fleet.cli.output import Form, Members, cell, say, show_record
from fleet.errors import ExitCode

DONE = {"device_id": "device", "action": "done", "sessions": "sessions ended"}


def act(home: Place, form: Form, where: tuple[str, str], verb: str, body: Members) -> None:
    """Do it, and show what came of it."""
    given = {name: value for name, value in body.items() if value}
    found = with_client(home, lambda client: client.post("devices", *where, verb, body=given))
    show_record(found, form, names=DONE)


def suspend_all(home: Place, form: Form, query: str, *, yes: bool, reason: str) -> None:
    """Suspend all devices that fit a query, and show what came of it."""

    def ask(client: Client) -> Members:
        selecting.agree(client, query, what="suspend", is_agreed=yes)
        return client.post("suspensions", body={"query": query, **({"reason": reason} if reason else {})})

    names = {"suspended": "suspended", "passed_over": "passed over", "sessions": "sessions ended"}
    show_record(with_client(home, ask), form, names=names)


def resume_all(home: Place, form: Form, query: str, *, yes: bool, reason: str) -> None:
    """Let all devices go on that fit a query, and show what came of it."""

    def ask(client: Client) -> Members:
        selecting.agree(client, query, what="resume", is_agreed=yes)
        return client.post("resumptions", body={"query": query, **({"reason": reason} if reason else {})})

    names = {"resumed": "resumed", "passed_over": "passed over"}
    show_record(with_client(home, ask), form, names=names)


_RECEIPT = {
    "device_id": "device",
    "domain": "domain",
    "retired_at": "retired",
    "revoked": "revoked",
    "sessions": "sessions ended",
    "entries": "audit entries",
    "verified": "verified",
}


@click.command()
@options.record
@options.domain
@options.device
@options.reason
@click.pass_context
def decommission(
    context: click.Context, home: Place, form: Form, *, domain: str | None, device: str, reason: str
) -> None:
    """Take a device out of service for good, and print a receipt: what was revoked, and what proves it.

    Its records and its story are kept, so that what it signed can be verified; nobody else gets its id. It
    can be called again: then it looks again, and prints the receipt anew.
    """
    where = options.identity_of(home, device, domain)
    body = {"reason": reason} if reason else {}
    found = with_client(home, lambda client: client.post("devices", *where, "decommission", body=body))
    show_record(found, form, names=_RECEIPT)
    if not found["verified"]:
        say(f"error: revoked, but not verified: {cell(found['problem'])}")
        say("hint: it is committed and will be enforced; run it again to verify")
        context.exit(ExitCode.NEEDS_ATTENTION)
    elif form is Form.TABLE:
        say("hint: fleet audit prove NUMBER prints what proves an entry, for whoever has to believe it")

"""What is done about the fleet's own certificates by hand: a renewal now, and a look at what was brought."""

import click

from fleet.cli import options, selecting
from fleet.cli.client import Client, with_client
from fleet.cli.options import Place
from fleet.cli.output import Form, Members, show_record
from fleet.errors import UsageError

_NAMES = {"serial": "server certificate", "issuer": "issuer", "not_after": "good until"}


@click.command()
@options.record
@click.argument("purposes", nargs=-1, type=click.Choice(["server", "service", "signer"]))
@selecting.query
@click.option(
    "--within-hours", type=click.IntRange(0, 8760), metavar="N", help="Spread devices over so long [24]."
)
@selecting.yes
@options.reason
def renew(
    home: Place,
    form: Form,
    *,
    purposes: tuple[str, ...],
    query: str | None,
    within_hours: int | None,
    yes: bool,
    reason: str,
) -> None:
    """Renew the fleet's own certificates now, or have devices renew theirs before their time.

    Of our own (server, service, signer) for a key that others may have seen: they renew by themselves in
    time, and nobody is disconnected. Devices that fit a query are told, and renew one after another.
    """
    if bool(purposes) == (query is not None):
        raise UsageError("name purposes, or give a --query", hint="fleet cert renew --help")
    if query is not None:
        _renew_devices(home, form, {"query": query, "within_hours": within_hours, "reason": reason}, yes=yes)
        return
    body: Members = {"purposes": list(dict.fromkeys(purposes))}
    show_record(with_client(home, lambda client: client.post("own", "renew", body=body)), form, names=_NAMES)


def _renew_devices(home: Place, form: Form, given: Members, *, yes: bool) -> None:
    body = {name: value for name, value in given.items() if value not in {None, ""}}

    def act(client: Client) -> Members:
        selecting.agree(client, str(given["query"]), what="renew", is_agreed=yes)
        return client.post("renewals", body=body)

    show_record(with_client(home, act), form, names={"found": "devices", "hastened": "made due"})


def reload(home: Place) -> None:
    """Make the server that runs take in a certificate that was brought."""
    found = with_client(home, lambda client: client.post("own", "reload", body={}))
    show_record(found, Form.TABLE, names=_NAMES)

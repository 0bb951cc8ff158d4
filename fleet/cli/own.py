"""What is done about the fleet's own certificates by hand: a renewal now, and a look at what was brought."""

import click

from fleet.cli import options
from fleet.cli.client import with_client
from fleet.cli.options import Place
from fleet.cli.output import Form, Members, show_record

_NAMES = {"serial": "server certificate", "issuer": "issuer", "not_after": "good until"}


@click.command()
@options.record
@click.argument("purposes", nargs=-1, required=True, type=click.Choice(["server", "service", "signer"]))
def renew(home: Place, form: Form, *, purposes: tuple[str, ...]) -> None:
    """Renew the fleet's own certificates now: its server's, its service's, its signers'.

    They renew by themselves in time; this is for a key that others may have seen. Nobody is disconnected.
    """
    body: Members = {"purposes": list(dict.fromkeys(purposes))}
    show_record(with_client(home, lambda client: client.post("own", "renew", body=body)), form, names=_NAMES)


def reload(home: Place) -> None:
    """Make the server that runs take in a certificate that was brought."""
    found = with_client(home, lambda client: client.post("own", "reload", body={}))
    show_record(found, Form.TABLE, names=_NAMES)

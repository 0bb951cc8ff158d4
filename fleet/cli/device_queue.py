"""`fleet device approve` and `reject`: the two answers to a request that waits."""

import re
from dataclasses import dataclass

import click

from fleet.cli import options
from fleet.cli.client import with_client
from fleet.cli.device_acts import DONE, act
from fleet.cli.options import Place
from fleet.cli.output import Form, show_record
from fleet.errors import NotFoundError

_SHORT_CODE = re.compile(r"[0-9A-Za-z]{4}-?[0-9A-Za-z]{4}", re.ASCII)
_named = click.argument("named", metavar="CODE|DEVICE")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """Whom an operator decides on, as he named him."""

    named: str
    domain: str | None
    key: str | None


@click.command()
@options.record
@options.domain
@_named
@options.reason
@click.option("--key", metavar="SHA256", help="Which key, where several ask in this name (see device show).")
def approve(home: Place, form: Form, *, domain: str | None, named: str, reason: str, key: str | None) -> None:
    """Let a device in that waits for approval, by the short code that it shows, or by its id.

    The code is of one key; an id may be asked for by several, and only one of them is the device's.
    """
    _decide(home, form, _Asked(named=named, domain=domain, key=key), verb="approve", reason=reason)


@click.command()
@options.record
@options.domain
@_named
@options.reason
@click.option("--key", metavar="SHA256", help="Which key, where several ask in this name (see device show).")
def reject(home: Place, form: Form, *, domain: str | None, named: str, reason: str, key: str | None) -> None:
    """Refuse a device that waits for approval: this key of it is not asked about again for a week."""
    _decide(home, form, _Asked(named=named, domain=domain, key=key), verb="reject", reason=reason)


def _decide(home: Place, form: Form, asked: _Asked, *, verb: str, reason: str) -> None:
    """Answer a request that waits: what looks like a short code is one, where it is anybody's."""
    given = {"reason": reason} if reason else {}
    if _SHORT_CODE.fullmatch(asked.named) and asked.domain is None and asked.key is None:
        try:
            found = with_client(home, lambda client: client.post("waiting", asked.named, verb, body=given))
        except NotFoundError:
            pass
        else:
            show_record(found, form, names=DONE)
            return
    where = options.identity_of(home, asked.named, asked.domain)
    act(home, form, where, verb, {"reason": reason, "key_hash": asked.key})

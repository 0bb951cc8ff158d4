"""`fleet profile ...`: what certificates hold, and which devices get which profile."""

from pathlib import Path

import click

from fleet.cli import options
from fleet.cli.client import Client, with_client
from fleet.cli.options import Place
from fleet.cli.output import Form, Members, show_list, show_record
from fleet.cli.table import Column
from fleet.config import load
from fleet.errors import UsageError

_COLUMNS = (
    Column(title="DOMAIN", member="domain"),
    Column(title="PROFILE", member="profile", whole=True),
    Column(title="DAYS", member="lifetime_days"),
    Column(title="APPROVAL", member="approval"),
    Column(title="ASSURANCE", member="assurance"),
    Column(title="KEYS", member="key_types"),
)
_NAMES = {
    "domain": "domain",
    "profile": "profile",
    "experimental": "experimental",
    "key_types": "key_types",
    "rsa_bits": "rsa_bits",
    "lifetime_days": "lifetime_days",
    "backdate_minutes": "backdate_minutes",
    "usages": "usages",
    "names": "names",
    "renew_from": "renew_from",
    "renew_spread": "renew_spread",
    "same_key": "same_key",
    "approval": "approval",
    "assurance": "assurance",
    "by_label": "by_label",
    "server_key": "server_key",
    "ways_back": "back by",
    "devices": "assigned devices",
    "batches": "assigned batches",
}
_ASSIGNED = {"domain": "domain", "device_id": "device", "batch": "batch", "profile": "profile"}


@click.group()
def command() -> None:
    """Profiles stand in fleet.toml: in [domains.D], and in [domains.D.profiles.NAME] where they differ.

    A device gets the profile that was assigned to it, else its batch's, else the domain's own, `device`.
    """


@command.command("list")
@options.listing
@options.domain
def list_profiles(home: Place, form: Form, *, domain: str | None) -> None:
    """List the profiles that are in force."""

    def act(client: Client) -> None:
        show_list(client.items("profiles", domain=domain), form, columns=_COLUMNS)

    with_client(home, act)


@command.command()
@options.record
@options.domain
@click.argument("name")
def show(home: Place, form: Form, *, domain: str | None, name: str) -> None:
    """Show a profile, each setting as fleet.toml names it."""
    place = options.domain_of(home, domain)
    found = with_client(home, lambda client: client.get("profiles", place, name))
    if form is Form.TABLE:
        parts = {name: f"{found[name]:.2f}" for name in ("renew_from", "renew_spread")}
        found = {**found, **parts}
    show_record(found, form, names=_NAMES)


@command.command()
@options.as_json
@click.argument("file", type=click.Path(path_type=Path))
def check(form: Form, *, file: Path) -> None:
    """Check a fleet.toml without a server; what is wrong is told with its line."""
    found = load(file)
    told: Members = {
        "file": str(file),
        "fleet": found.fleet,
        "domains": len(found.domains),
        "profiles": sum(len(domain.profiles) for domain in found.domains),
    }
    show_record(told, form, names={name: name for name in told})


@command.command()
@options.record
@options.domain
@click.argument("name")
@click.option("--device", metavar="ID", help="For one device.")
@click.option("--batch", metavar="NAME", help="For all devices of a batch that have none of their own.")
def assign(
    home: Place, form: Form, *, domain: str | None, name: str, device: str | None, batch: str | None
) -> None:
    """Choose the profile of a device or batch, for its next certificates."""
    _assign(home, form, domain, {"profile": name, "device_id": device, "batch": batch})


@command.command()
@options.record
@options.domain
@click.option("--device", metavar="ID", help="Of one device.")
@click.option("--batch", metavar="NAME", help="Of a batch.")
def clear(home: Place, form: Form, *, domain: str | None, device: str | None, batch: str | None) -> None:
    """Take the choice of a device or batch back: the batch, or else the domain, decides again."""
    _assign(home, form, domain, {"device_id": device, "batch": batch})


def _assign(home: Place, form: Form, domain: str | None, wanted: Members) -> None:
    if bool(wanted["device_id"]) == bool(wanted["batch"]):
        raise UsageError("name a device, or else a batch", hint="--device ID, or --batch NAME")
    given = {name: value for name, value in wanted.items() if value}
    body = {"domain": options.domain_of(home, domain), **given}
    found = with_client(home, lambda client: client.post("profiles", "assign", body=body))
    show_record(found, form, names=_ASSIGNED)

"""`fleet device ...`: the devices of a fleet, from registration to retirement."""

from collections.abc import Mapping

import click

from fleet.cli import device_marks, options, selecting
from fleet.cli.client import Client, with_client
from fleet.cli.device_acts import act, decommission, resume_all, suspend_all
from fleet.cli.device_import import import_devices
from fleet.cli.device_queue import approve, reject
from fleet.cli.options import Place
from fleet.cli.output import (
    Column,
    Form,
    Json,
    Members,
    items_of,
    say,
    show_list,
    show_record,
    visible,
    write_text,
)
from fleet.errors import UsageError

_COLUMNS = (
    Column(title="DEVICE", member="device_id", whole=True),
    Column(title="DOMAIN", member="domain"),
    Column(title="STANDING", member="standing"),
    Column(title="BATCH", member="batch"),
    Column(title="CERTIFICATE ENDS", member="not_after"),
    Column(title="LAST SEEN", member="last_seen_at"),
)
_MEMBERS = (
    "device_id",
    "domain",
    "kind",
    "standing",
    "alarm",
    "batch",
    "model",
    "owner",
    "tags",
    "groups",
    "agent_version",
    "serial",
    "not_after",
    "registered_at",
    "last_seen_at",
)
_NAMES = {
    "device_id": "device",
    "domain": "domain",
    "standing": "standing",
    "alarm": "alarm",
    "kind": "kind",
    "batch": "batch",
    "hardware": "hardware",
    "note": "note",
    "model": "model",
    "owner": "owner",
    "tags": "tags",
    "groups": "groups",
    "agent_version": "agent",
    "profile": "profile",
    "assurance": "assurance",
    "registered_at": "registered",
    "last_seen_at": "last seen",
    "serial": "certificate",
    "not_after": "ends",
}
_CERTIFICATES = (
    Column(title="SERIAL", member="serial", whole=True),
    Column(title="STATE", member="state"),
    Column(title="ENDS", member="not_after"),
    Column(title="RENEWED FROM", member="parent", whole=True),
)
_STORY = (
    Column(title="AT", member="at", whole=True),
    Column(title="STEP", member="step", whole=True),
    Column(title="CAME", member="came", whole=True),
    Column(title="BY RULE", member="rule", whole=True),
    Column(title="WHAT IT SAW", member="saw", whole=True),
    Column(title="BY", member="actor"),
    Column(title="CERTIFICATE", member="serial", whole=True),
)
_SEEN = (
    Column(title="LAST", member="last_at", whole=True),
    Column(title="WHAT", member="kind", whole=True),
    Column(title="WHY", member="why", whole=True),
    Column(title="AT", member="place"),
    Column(title="FROM", member="address", whole=True),
    Column(title="TIMES", member="times"),
)
_WAITING = (
    Column(title="SHORT CODE", member="short_code", whole=True),
    Column(title="DEVICE", member="device_id", whole=True),
    Column(title="DOMAIN", member="domain"),
    Column(title="AGE", member="age"),
    Column(title="UNTIL", member="ends_at"),
    Column(title="PROVED", member="assurance"),
    Column(title="WHY", member="reason"),
)
_REQUESTS = (*_WAITING, Column(title="REJECTED BY", member="rejected_by"))
_PROOFS = (
    Column(title="PROVED", member="assurance", whole=True),
    Column(title="BY", member="proof"),
    Column(title="AT", member="proved_at"),
    Column(title="EVIDENCE", member="evidence"),
)
_LISTED = (
    Column(title="THING", member="thing", whole=True),
    Column(title="VALUE", member="value"),
    Column(title="LISTED BY", member="source"),
)
_ATTRIBUTES = (Column(title="NAME", member="name", whole=True), Column(title="VALUE", member="value"))
_CODES = (
    Column(title="GRANT", member="code_id", whole=True),
    Column(title="KIND", member="kind"),
    Column(title="BY", member="source"),
    Column(title="USED", member="bound"),
    Column(title="EXPIRES", member="expires"),
    Column(title="CLOSED", member="closed_at"),
)


@click.group()
def command() -> None:
    """Devices: who they are, where they stand, what they may do.

    DEVICE is a device id, or DOMAIN:ID where the fleet has several domains.
    """


@command.command("list")
@options.listing
@options.domain
@options.limit(None)
@click.option("--standing", metavar="S", help="Only these: active, registered, suspended, alarmed, ...")
@click.option("--batch", metavar="NAME", help="Only devices of a batch.")
@click.option("--prefix", metavar="TEXT", help="Only ids that start so.")
@selecting.query
@click.option("--columns", metavar="NAMES", help="What to show of each, apart by commas.")
@click.option("--waiting", is_flag=True, help="Requests that wait for approval, instead.")
def list_devices(
    home: Place,
    form: Form,
    *,
    domain: str | None,
    limit: int | None,
    standing: str | None,
    batch: str | None,
    prefix: str | None,
    query: str | None,
    columns: str | None,
    waiting: bool,
) -> None:
    """List devices, by domain and id.

    Columns are members of what --json prints, such as device_id,owner,tags,not_after.
    """
    shown = _COLUMNS if columns is None else _chosen_columns(columns)

    def act(client: Client) -> None:
        if waiting:
            found = client.items("waiting")
            waiting_now = found if form is not Form.TABLE else map(_aged, found)
            show_list(waiting_now, form, columns=_WAITING, empty="nobody waits for approval")
            return
        found = client.items(
            "devices",
            domain=domain,
            standing=standing,
            batch=batch,
            prefix=prefix,
            query=query,
            limit=limit,
        )
        is_all = not (domain or standing or batch or prefix or query)
        empty = "no devices; fleet claim create lets one enroll" if is_all else "no device fits"
        show_list(found, form, columns=shown, empty=empty)

    with_client(home, act)


@command.command()
@options.record
@options.domain
@options.device
def show(home: Place, form: Form, *, domain: str | None, device: str) -> None:
    """Show all that is on file about a device."""
    where = options.identity_of(home, device, domain)
    found = with_client(home, lambda client: client.get("devices", *where))
    show_record(found, form, names=_NAMES)
    if form is Form.TABLE:
        _section("certificates", found.get("certificates"), _CERTIFICATES)
        _section("codes and other grants", found.get("codes"), _CODES)
        _section("what was proved", found.get("proofs"), _PROOFS)
        _section("what lists say that it comes with", found.get("listed"), _LISTED)
        _section("attributes", _pairs(found.get("attributes")), _ATTRIBUTES)
        _section("requests for approval", _all_aged(found.get("waiting")), _REQUESTS)


@command.command()
@options.record
@options.domain
@options.device
def explain(home: Place, form: Form, *, domain: str | None, device: str) -> None:
    """Tell how a device came to stand where it does, and what to do about it."""
    where = options.identity_of(home, device, domain)
    found = with_client(home, lambda client: client.get("devices", *where, "explain"))
    if form is not Form.TABLE:
        show_record(found, form, names={})
        return
    # An operator's act stands on the trail by itself, beside what it changed of the record.
    story = [
        told
        for told in items_of(found["story"])
        if told["action"] != "device.changed" or not str(told["actor"]).startswith("operator:")
    ]
    show_list(story, form, columns=_STORY)
    seen = items_of(found["connections"])
    _section("last connections", [{**one, "why": one["cause"] or one["ending"] or ""} for one in seen], _SEEN)
    _section("requests for approval", _all_aged(found["waiting"]), _REQUESTS)
    write_text(f"\n{found['device_id']}: {found['verdict']}")
    if found["advice"]:
        say(f"hint: {found['advice']}")


@command.command()
@options.record
@options.domain
@options.device
@click.option(
    "--kind", type=click.Choice(["agent", "plain"]), default="agent", help="plain: no device-agent."
)
@click.option("--batch", metavar="NAME", help="The batch it belongs to; a new name makes a new batch.")
@click.option("--hardware", metavar="TEXT", help="What it is, such as a model or a serial number.")
@click.option("--note", metavar="TEXT", help="Whatever helps the next person.")
def register(
    home: Place,
    form: Form,
    *,
    domain: str | None,
    device: str,
    kind: str,
    batch: str | None,
    hardware: str | None,
    note: str | None,
) -> None:
    """Make a device known. It may enroll when something admits it: a code, a claim, a station."""
    place, name = options.identity_of(home, device, domain)
    body = {
        "domain": place,
        "device_id": name,
        "kind": kind,
        "batch": batch,
        "hardware": hardware,
        "note": note,
    }
    show_record(with_client(home, lambda client: client.post("devices", body=body)), form, names=_NAMES)


@command.command()
@options.record
@options.domain
@click.argument("device", metavar="[DEVICE]", required=False)
@selecting.query
@selecting.yes
@options.reason
def suspend(
    home: Place,
    form: Form,
    *,
    domain: str | None,
    device: str | None,
    query: str | None,
    yes: bool,
    reason: str,
) -> None:
    """Keep a device out for now, or all that fit a query; sessions end, nothing is revoked."""
    if (device is None) == (query is None):
        raise UsageError("name a device, or give a --query", hint="fleet device suspend --help")
    if device is not None:
        act(home, form, options.identity_of(home, device, domain), "suspend", {"reason": reason})
    elif query is not None:
        suspend_all(home, form, query, yes=yes, reason=reason)


@command.command()
@options.record
@options.domain
@click.argument("device", metavar="[DEVICE]", required=False)
@selecting.query
@selecting.yes
@options.reason
def resume(
    home: Place,
    form: Form,
    *,
    domain: str | None,
    device: str | None,
    query: str | None,
    yes: bool,
    reason: str,
) -> None:
    """Let a device go on after a suspension, or after an alarm that was none.

    With --query, all that fit and are suspended; those with an alarm are passed over.
    """
    if (device is None) == (query is None):
        raise UsageError("name a device, or give a --query", hint="fleet device resume --help")
    if device is not None:
        act(home, form, options.identity_of(home, device, domain), "resume", {"reason": reason})
    elif query is not None:
        resume_all(home, form, query, yes=yes, reason=reason)


@command.command()
@options.record
@options.domain
@options.device
@options.reason
def retire(home: Place, form: Form, *, domain: str | None, device: str, reason: str) -> None:
    """Take a device out of service for good: all that it has is revoked."""
    act(home, form, options.identity_of(home, device, domain), "retire", {"reason": reason})


def _chosen_columns(names: str) -> tuple[Column, ...]:
    chosen = [name.strip() for name in names.split(",")]
    if strange := [name for name in chosen if name not in _MEMBERS]:
        raise UsageError(
            f"there is no column {visible(strange[0][:64])!r}", hint=f"there are {', '.join(_MEMBERS)}"
        )
    return tuple(Column(title=name.upper().replace("_", " "), member=name) for name in chosen)


def _all_aged(items: Json) -> Json:
    return [_aged(item) for item in items_of(items)]


def _aged(request: Members) -> Members:
    """Add how long a request has waited, in the largest unit that it fills."""
    seconds = request["age_seconds"]
    assert isinstance(seconds, int)  # noqa: S101 - our own server's answer
    units = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    size, unit = next((each for each in units if seconds >= each[0]), units[-1])
    return {**request, "age": f"{seconds // size} {unit}"}


def _pairs(members: Json) -> Json:
    found = members if isinstance(members, Mapping) else {}
    return [{"name": name, "value": value} for name, value in found.items()]


def _section(title: str, items: Json, columns: tuple[Column, ...]) -> None:
    if found := items_of(items):
        write_text(f"\n{title}")
        show_list(found, Form.TABLE, columns=columns)


for each in (import_devices, approve, reject, decommission, *device_marks.COMMANDS):
    command.add_command(each)

"""`fleet rollout ...`: a change is led through the fleet in waves, each let through by a gate."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from fleet.cli import options, rehearsal, rollout_flags
from fleet.cli.client import Client, with_client
from fleet.cli.following import require_served
from fleet.cli.handed import content_of
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
    write_text,
)
from fleet.core.rollout import DeviceState, RolloutState
from fleet.errors import BadInputError, ExitCode, UsageError

_COLUMNS = (
    Column(title="ROLLOUT", member="name", whole=True),
    Column(title="KIND", member="kind"),
    Column(title="STATE", member="state"),
    Column(title="WAVE", member="progress"),
    Column(title="SINCE", member="changed_at"),
    Column(title="WHY", member="reason"),
)
_WAVES = (
    Column(title="WAVE", member="name", whole=True),
    Column(title="DEVICES", member="devices"),
    Column(title="WAITING", member="waiting"),
    Column(title="TOLD", member="told"),
    Column(title="UPDATED", member="updated"),
    Column(title="FAILED", member="failed"),
    Column(title="ABSENT", member="absent"),
    Column(title="OUT", member="out"),
    Column(title="UNDONE", member="undone"),
)
_PLANNED_WAVES = (
    Column(title="WAVE", member="name", whole=True),
    Column(title="SIZE", member="size"),
    Column(title="DEVICES", member="devices"),
)
_DEVICES = (
    Column(title="DEVICE", member="device", whole=True),
    Column(title="WAVE", member="wave"),
    Column(title="STATE", member="state"),
    Column(title="TOLD", member="told_at"),
    Column(title="SEEN", member="last_seen_at"),
    Column(title="WHY", member="reason"),
)
_PLANNED = {
    "name": "rollout",
    "kind": "kind",
    "target": "target",
    "select": "selects",
    "devices": "devices",
    "left_out": "left out",
    "soonest": "over at the soonest",
    "latest": "over at the latest",
}
_VIEW = {
    "name": "rollout",
    "kind": "kind",
    "target": "target",
    "state": "state",
    "reason": "because",
    "progress": "wave",
    "gate_says": "gate",
    "window": "window",
    "soonest": "over at the soonest",
    "latest": "over at the latest",
    "changed_by": "changed by",
    "changed_at": "changed at",
    "version": "version",
}
_ORDERED = {
    "name": "rollout",
    "state": "state",
    "progress": "wave",
    "reason": "because",
    "version": "version",
}
_WATCH_SECONDS = 2.0
_HOME_AND_CLEAR = "\x1b[H\x1b[2J"
_OVER = frozenset({RolloutState.DONE, RolloutState.ROLLED_BACK, RolloutState.ABANDONED, RolloutState.HALTED})

name_argument = click.argument("name", metavar="NAME")


@click.group()
def command() -> None:
    """Lead a change through the fleet: a pilot first, then waves, each let through by a gate."""


@command.command()
@options.record
@rehearsal.option
@rollout_flags.flags
@click.argument("file", type=click.Path(path_type=Path, readable=False), metavar="[FILE]", required=False)
def plan(home: Place, form: Form, *, file: Path | None, rehearse: bool, **flags: rollout_flags.Value) -> None:
    """Check and save a plan: FILE is TOML (- is standard input), or flags say a simple one.

    A plan that cannot be met is refused, and everything that speaks against it is told.
    """
    if (file is None) is not rollout_flags.is_given(flags):
        raise UsageError("a plan is a file, or flags", hint="fleet rollout plan --help")
    text = rollout_flags.toml_of(flags) if file is None else _text(file)
    body: dict[str, Json] = {"plan": text} | ({"rehearse": True} if rehearse else {})
    found = with_client(home, lambda client: client.post("rollouts", body=body))
    if form is Form.TABLE:
        left_out = [f"{one['devices']} {one['reason']}" for one in items_of(found["left_out"])]
        show_record({**found, "left_out": left_out}, form, names=_names(found, _PLANNED))
        write_text("")
        show_list(items_of(found["planned_waves"]), form, columns=_PLANNED_WAVES)
    else:
        show_record(found, form, names=_PLANNED)
    if rehearse:
        rehearsal.say_rehearsed(form)
    else:
        say(f"next: fleet rollout start {found['name']}")


@command.command("list")
@options.listing
@options.limit(None)
@click.option(
    "--state", type=click.Choice([one.value for one in RolloutState]), help="Only those that stand so."
)
def list_rollouts(home: Place, form: Form, *, limit: int | None, state: str | None) -> None:
    """List the rollouts, the newest first."""

    def act(client: Client) -> None:
        items = client.items("rollouts", limit=limit, rollout_state=state)
        told = map(_with_progress, items) if form is Form.TABLE else items
        show_list(told, form, columns=_COLUMNS, empty="there is no rollout")

    with_client(home, act)


@command.command()
@options.listing
@click.option("--watch", "-w", is_flag=True, help="Show it again with each change, until it is over.")
@name_argument
def status(home: Place, form: Form, *, name: str, watch: bool) -> None:
    """Show where a rollout stands: its waves, what its gate says, when it would be over.

    Exit code 7: it was halted, and somebody has to look.
    """
    if watch and form is Form.JSON:
        raise UsageError("a record that changes is no one JSON document", hint="--watch --jsonl")
    if watch:
        require_served(home)

    def act(client: Client) -> str:
        found: Members = {}
        for found in _changes(client, name) if watch else iter([client.get("rollouts", name)]):
            _show(found, form, clears=watch and sys.stdout.isatty())
        return str(found["state"])

    if with_client(home, act) == RolloutState.HALTED:
        click.get_current_context().exit(ExitCode.NEEDS_ATTENTION)


@command.command()
@options.listing
@options.limit(None)
@click.option("--wave", type=click.IntRange(1), metavar="N", help="Only those of a wave; the pilot is 1.")
@click.option(
    "--state", type=click.Choice([one.value for one in DeviceState]), help="Only those that stand so."
)
@name_argument
def devices(
    home: Place, form: Form, *, name: str, limit: int | None, wave: int | None, state: str | None
) -> None:
    """List the devices of a rollout, and why each stands where it stands."""

    def act(client: Client) -> None:
        items = client.items("rollouts", name, "devices", limit=limit, wave=wave, rollout_device_state=state)
        told = ({**one, "device": f"{one['domain']}:{one['device_id']}"} for one in items)
        show_list(told if form is Form.TABLE else items, form, columns=_DEVICES, empty="there is none")

    with_client(home, act)


def _order_command(verb: str, text: str, *more: Callable[..., Callable[..., None]]) -> click.Command:
    def order(
        home: Place, form: Form, *, name: str, version: int | None, reason: str, anyway: bool = False
    ) -> None:
        def act(client: Client) -> Members:
            seen = version if version is not None else client.get("rollouts", name)["version"]
            body: dict[str, Json] = {"version": seen}
            body |= ({"reason": reason} if reason else {}) | ({"anyway": True} if anyway else {})
            return client.post("rollouts", name, verb, body=body)

        found = with_client(home, act)
        told = _with_progress(found) if form is Form.TABLE else found
        show_record(told, form, names=_names(told, _ORDERED))

    decorated = options.record(options.reason(_version(name_argument(order))))
    for decorate in more:
        decorated = decorate(decorated)
    return click.command(verb, help=text)(decorated)


_version = click.option(
    "--version", type=click.IntRange(1), metavar="N", help="Only if it is still this version."
)
_anyway = click.option("--anyway", is_flag=True, help="Go on in spite of the devices that have failed.")

for _command in (
    _order_command("start", "Begin with the pilot. Over many devices, a second operator is asked for."),
    _order_command("pause", "Tell nobody more for now; who was told goes on, and is judged."),
    _order_command("resume", "Go on after a pause, or after a halt.", _anyway),
    _order_command("halt", "Stop: tell nobody more, and judge nothing."),
    _order_command("roll-back", "Take back what was halted; fleet rollout status says what that means."),
    _order_command("abandon", "Give a rollout up as it stands, and free its devices for others."),
):
    command.add_command(_command)


def _text(file: Path) -> str:
    try:
        return content_of(file).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInputError(f"{file} is not UTF-8 text", hint="save it as UTF-8 (TOML 1.0)") from error


def _changes(client: Client, name: str) -> Iterator[Members]:
    """Yield a rollout whenever it has changed, until it is over; that time passes is no change."""
    shown: Members = {}
    while True:
        found = client.get("rollouts", name)
        standing = {member: value for member, value in found.items() if member not in {"soonest", "latest"}}
        if standing != shown:
            shown = standing
            yield found
        if found["state"] in _OVER:
            return
        time.sleep(_WATCH_SECONDS)


def _show(found: Members, form: Form, *, clears: bool) -> None:
    if form is not Form.TABLE:
        show_record(found, form, names={})
        return
    if clears:
        sys.stdout.write(_HOME_AND_CLEAR)
    told = _with_progress(found)
    if found["verdict"] is not None:
        told["gate_says"] = f"{found['verdict']}: {found['because']}"
    if not found["window_is_open"]:
        told["window"] = "closed: nobody is told now"
    if found["state"] == RolloutState.HALTED:
        told["roll_back_does"] = found["roll_back"]
    names = _VIEW | {"roll_back_does": "a roll-back"}
    show_record(told, form, names=_names(told, names))
    write_text("")
    show_list(items_of(found["told_waves"]), form, columns=_WAVES)


def _with_progress(found: Members) -> dict[str, Json]:
    """Return a rollout with its wave as people count them."""
    return {**found, "progress": f"{found['wave']} of {found['waves']}" if found["wave"] else "none yet"}


def _names(found: Members, names: dict[str, str]) -> dict[str, str]:
    """Return the names of those members that say something."""
    return {name: title for name, title in names.items() if found.get(name) not in (None, [], "")}

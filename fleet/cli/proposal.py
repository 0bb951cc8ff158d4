"""`fleet proposal ...`: acts on many devices, which one operator proposes and another one approves."""

import click

from fleet.cli import options
from fleet.cli.client import Client, with_client
from fleet.cli.options import Place
from fleet.cli.output import (
    Form,
    Members,
    say,
    show_list,
    show_record,
    visible,
    write_json,
    write_text,
)
from fleet.cli.table import Column
from fleet.core.proposal import ProposalState

_COLUMNS = (
    Column(title="PROPOSAL", member="proposal", whole=True),
    Column(title="STATE", member="state"),
    Column(title="ACT", member="kind"),
    Column(title="DEVICES", member="devices"),
    Column(title="SELECTION", member="selection"),
    Column(title="BY", member="proposed_by"),
    Column(title="EXPIRES", member="expires_at", whole=True),
)
_NAMES = {
    "proposal": "proposal",
    "state": "state",
    "kind": "act",
    "selection": "selection",
    "devices": "devices",
    "total": "of",
    "sample": "first of them",
    "digest": "digest",
    "because": "because",
    "reason": "reason",
    "proposed_by": "proposed by",
    "proposed_at": "at",
    "expires_at": "waits until",
    "role": "needs another",
    "decided_by": "decided by",
    "decided_at": "decided at",
    "outcome": "outcome",
}
_STATES = click.Choice([state.value for state in ProposalState])


@click.group()
def command() -> None:
    """Acts that need a second operator: what waits, and what becomes of it.

    An act on many devices at once is proposed by who asks for it, and done when another operator of the
    needed role approves it. How many are many, [acts] in fleet.toml says; one device never waits.
    """


@command.command("list")
@options.listing
@click.option("--state", type=_STATES, help="Only these; open ones wait for somebody.")
def list_proposals(home: Place, form: Form, *, state: str | None) -> None:
    """List the proposals, the oldest first."""

    def act(client: Client) -> None:
        found = client.items("proposals", proposal_state=state)
        show_list(found, form, columns=_COLUMNS, empty="nothing was proposed")

    with_client(home, act)


@command.command()
@options.record
@click.option("--devices", is_flag=True, help="Print every device, one a line.")
@click.argument("proposal")
def show(home: Place, form: Form, *, devices: bool, proposal: str) -> None:
    """Show exactly what a proposal would do, or did."""

    def act(client: Client) -> None:
        if devices:
            names = [str(each["name"]) for each in client.items("proposals", proposal, "devices")]
            write_text("\n".join(names)) if form is Form.TABLE else write_json(names)
        else:
            _show(client.get("proposals", proposal), form)

    with_client(home, act)


@command.command()
@options.record
@click.argument("proposal")
def approve(home: Place, form: Form, *, proposal: str) -> None:
    """Agree to what another operator proposed: it is done now, to the devices that were shown.

    It is refused where the selection has changed by more than [acts] drift_percent since. Approved again,
    it is done again if it was cut off, and told again if not.
    """
    _show(with_client(home, lambda client: client.post("proposals", proposal, "approve", body={})), form)


@command.command()
@options.record
@options.reason
@click.argument("proposal")
def reject(home: Place, form: Form, *, reason: str, proposal: str) -> None:
    """End what another operator proposed, without doing it."""
    _end(home, form, proposal, "reject", reason)


@command.command()
@options.record
@options.reason
@click.argument("proposal")
def withdraw(home: Place, form: Form, *, reason: str, proposal: str) -> None:
    """Take back what you have proposed yourself."""
    _end(home, form, proposal, "withdraw", reason)


def _end(home: Place, form: Form, proposal: str, verb: str, reason: str) -> None:
    body = {"reason": reason} if reason else {}
    _show(with_client(home, lambda client: client.post("proposals", proposal, verb, body=body)), form)


def _show(found: Members, form: Form) -> None:
    without = {"digest", "sample", "total"} if found["devices"] == 0 else set[str]()
    shown = {
        name: title for name, title in _NAMES.items() if found.get(name) is not None and name not in without
    }
    show_record(found, form, names=shown)
    if form is Form.TABLE and found.get("shows"):
        write_text("\n".join(("", *(visible(line) for line in str(found["shows"]).splitlines()))))
    if form is Form.TABLE and found["state"] == ProposalState.OPEN:
        say(f"next: another operator, fleet proposal approve {found['proposal']}")

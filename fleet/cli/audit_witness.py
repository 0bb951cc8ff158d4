"""`fleet audit checkpoint` and `witnesses`: the trail as those see it who witness that it only grows."""

import click

from fleet.cli import options
from fleet.cli.client import with_client
from fleet.cli.options import Place
from fleet.cli.output import Column, Form, Members, items_of, show_list, write_text

_COLUMNS = (
    Column(title="WITNESS", member="name"),
    Column(title="KNOWS", member="size"),
    Column(title="COSIGNED", member="cosigned_at", whole=True),
    Column(title="TRIED", member="tried_at", whole=True),
    Column(title="PROBLEM", member="problem"),
)


@click.command()
@options.place
@click.option("--key", "wants_key", is_flag=True, help="Print the key that witnesses know the fleet by.")
@click.option("--witness", metavar="NAME", help="What this witness cosigned last, with its line.")
def checkpoint(home: Place, *, wants_key: bool, witness: str | None) -> None:
    """Print the newest checkpoint of the trail: a signed note, as witnesses of logs read it (C2SP)."""
    found = with_client(home, lambda client: client.get("audit", "checkpoint", witness=witness))
    write_text(str(found["key"]) if wants_key else str(found["note"]).removesuffix("\n"))


@click.command()
@options.listing
def witnesses(home: Place, form: Form) -> None:
    """List who witnesses the trail ([audit.witness.NAME] in fleet.toml), and what each has cosigned last."""
    found = with_client(home, lambda client: client.get("audit", "witnesses"))
    rows: list[Members] = items_of(found["items"])
    show_list(rows, form, columns=_COLUMNS, empty="nobody witnesses this trail")

"""`fleet demo`: one fleet's whole life on this machine, with real processes, and a proof for each step."""

import asyncio
from pathlib import Path

import click

from fleet.cli.output import Form


@click.command()
@click.option(
    "--keep", type=click.Path(path_type=Path), metavar="DIR", help="Keep the fleet home and logs there."
)
@click.option("--port", metavar="P", help="Include a real device on a real serial port.")
@click.option(
    "--json", "form", flag_value="json", default="table", help="Print the steps as JSON at the end."
)
@click.pass_context
def command(context: click.Context, *, keep: Path | None, port: str | None, form: str) -> None:
    """Show a whole fleet's life on this machine, in under a minute.

    Makes the authorities, starts server and broker, enrolls devices over serial lines and over the
    network, connects them, has impostors refused, renews every certificate, revokes one, and checks the
    audit trail. It changes nothing outside of its own folder. Any step that fails makes it fail.
    """
    from fleet.cli.demo.play import Wishes, play  # noqa: PLC0415 - the whole demo, needed here only

    context.exit(asyncio.run(play(Wishes(keep=keep, port=port, form=Form(form)))))

"""`fleet doctor`: every check that there is, each problem with its fix."""

import click

from fleet.cli import options
from fleet.cli.client import with_client
from fleet.cli.options import Place
from fleet.cli.output import Form, items_of, say, show_list, write_text
from fleet.errors import ExitCode


@click.command()
@options.listing
@click.pass_context
def command(context: click.Context, home: Place, form: Form) -> None:
    """Check everything; name each problem with its fix. Exit code 0: all is well; 7: something is not."""
    findings = items_of(with_client(home, lambda client: client.get("doctor"))["items"])
    if form is not Form.TABLE:
        show_list(findings, form, columns=())
    for finding in findings if form is Form.TABLE else ():
        mark = "ok " if finding["ok"] else "BAD"
        write_text(f"{mark}  {finding['check']}: {finding['text']}")
        if finding["fix"]:
            write_text(f"     fix: {finding['fix']}")
    bad = sum(1 for finding in findings if not finding["ok"])
    if bad and form is Form.TABLE:
        say(f"{bad} of {len(findings)} need attention")
    context.exit(ExitCode.NEEDS_ATTENTION if bad else ExitCode.DONE)

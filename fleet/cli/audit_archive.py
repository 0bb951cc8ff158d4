"""`fleet audit archive` and `archives`: old entries of the trail go to files, and where they are."""

import click

from fleet.cli import options
from fleet.cli.client import with_client
from fleet.cli.options import Place
from fleet.cli.output import Column, Form, items_of, show_list

_COLUMNS = (
    Column(title="FIRST", member="first"),
    Column(title="LAST", member="last"),
    Column(title="FILE", member="file", whole=True),
    Column(title="ARCHIVED", member="archived_at"),
)


@click.command()
@options.listing
@click.option("--older", metavar="400d", required=True, help="What is older than so many days; 30 at least.")
def archive(home: Place, form: Form, *, older: str) -> None:
    """Write old entries to files in the home's folder archive, and keep their hashes alone.

    Every proof goes on; search and explain show what is left. Copy the files away, and keep them as long as
    you must: what an entry said stands there only. [retention] audit_days does the same by itself.
    """
    body = {"days": options.days_of(older, such_as="400d")}
    made = with_client(home, lambda client: client.post("audit", "archives", body=body))
    show_list(items_of(made["items"]), form, columns=_COLUMNS, empty="nothing is that old")


@click.command()
@options.listing
def archives(home: Place, form: Form) -> None:
    """List the files that old entries were written to."""
    found = with_client(home, lambda client: client.get("audit", "archives"))
    show_list(items_of(found["items"]), form, columns=_COLUMNS, empty="nothing was archived")

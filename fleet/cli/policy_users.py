"""`fleet policy users`: who each admitted certificate is at relying parties, as a list or a server's map."""

from collections.abc import Iterator

import click

from fleet.cli import options
from fleet.cli.client import Client, with_client
from fleet.cli.options import Place
from fleet.cli.output import Column, Form, Members, show_list, write_text
from fleet.core.relying_map import Mapped, Server, compiled

_USERS = (
    Column(title="DEVICE", member="name", whole=True),
    Column(title="USERS", member="users"),
    Column(title="ROLES", member="roles"),
    Column(title="CERTIFICATE", member="serial", whole=True),
)


@click.command()
@options.listing
@click.option(
    "--for", "server", type=click.Choice([one.value for one in Server]), help="As this server reads it."
)
@click.option("--roles", is_flag=True, help="With --for: the roles, set apart by commas, not the user.")
def users(home: Place, form: Form, *, server: str | None, roles: bool) -> None:
    """List who each admitted certificate is at relying parties, or print it as a map for a web server.

    Of several users the first counts. Print it anew whenever certificates come and go; the server must trust
    the fleet's CAs for devices alone.
    """

    def act(client: Client) -> None:
        found = client.items("access", "users")
        if server is None:
            show_list(found, form, columns=_USERS, empty="no device is admitted")
            return
        rows = [row for one in found for row in _mapped(one, "roles" if roles else "users")]
        for line in compiled(rows, Server(server), variable="fleet_roles" if roles else "fleet_user"):
            write_text(line)

    with_client(home, act)


def _mapped(one: Members, member: str) -> Iterator[Mapped]:
    found = one[member]
    words = [str(word) for word in found] if isinstance(found, list) else []
    if words:
        yield Mapped(serial=str(one["serial"]), word=",".join(words) if member == "roles" else words[0])

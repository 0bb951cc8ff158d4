"""One act of an operator on one device, and what it says when it is done."""

from fleet.cli.client import with_client
from fleet.cli.options import Place
from fleet.cli.output import Form, Members, show_record

DONE = {"device_id": "device", "action": "done", "sessions": "sessions ended"}


def act(home: Place, form: Form, where: tuple[str, str], verb: str, body: Members) -> None:
    """Do it, and show what came of it."""
    given = {name: value for name, value in body.items() if value}
    found = with_client(home, lambda client: client.post("devices", *where, verb, body=given))
    show_record(found, form, names=DONE)

"""`fleet status`: how the fleet is, on one screen."""

import click

from fleet.cli import options
from fleet.cli.client import with_client
from fleet.cli.options import Place
from fleet.cli.output import Form, Json, Members, cell, show_record, write_json


@click.command()
@options.record
def command(home: Place, form: Form) -> None:
    """Show the fleet's health on one screen."""
    found = with_client(home, lambda client: client.get("status"))
    if form is Form.TABLE:
        show_record(_screen(found), form, names={title: title for title in _screen(found)})
    else:
        write_json(found)


def _screen(found: Members) -> Members:
    broker, endpoints = found["broker"], found["endpoints"]
    assert isinstance(broker, dict)  # noqa: S101 - our own server's answer
    screen: dict[str, Json] = {
        "fleet": found["fleet"],
        "domains": found["domains"],
        "server": "running" if found["serving"] else "not running; fleet serve starts it",
        "devices": found["devices"] or "none yet; fleet claim create lets one enroll",
        "waiting for approval": found["waiting"],
        "certificates admitted": found["admitted"],
        "end within 7 days": found["ending_soon"],
        "audit entries": found["audit_entries"],
        "revocation lists until": found["crls_until"],
    }
    if unsigned := found["unsigned"]:
        screen["NO CA SIGNS FOR"] = unsigned
    if isinstance(endpoints, dict):
        screen |= {
            "broker": f"{broker['driver']}, list proven {cell(broker['list_age_seconds'])} s ago",
            "live sessions": broker["sessions"],
            **{f"{name.replace('_', ' ')}": _address(place) for name, place in endpoints.items()},
        }
    return screen


def _address(place: Json) -> str:
    assert isinstance(place, dict)  # noqa: S101 - our own server's answer
    return f"{place['host']}:{place['port']}"

"""`fleet station carry`: the gateway of devices that have no connection of their own."""

import asyncio
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from fleet.cli import options
from fleet.cli.options import Place
from fleet.cli.output import Column, Form, Members, show_list
from fleet.cli.remote import Remote
from fleet.cli.workplace import Workplace
from fleet.errors import ExitCode, FleetError
from fleet.home import open_home

if TYPE_CHECKING:
    from fleet.station.gateway import Gateway

_FAILED = "failed"
_COLUMNS = (
    Column(title="PORT", member="port", whole=True),
    Column(title="DEVICE", member="device_id"),
    Column(title="OUTCOME", member="outcome"),
    Column(title="SERIAL", member="serial"),
    Column(title="WHY", member="why"),
)


@click.command("carry")
@options.listing
@click.option(
    "--port", "ports", multiple=True, required=True, metavar="P", help="A serial port; may be repeated."
)
@click.option("--station", "name", metavar="NAME", help="Whose word the devices obey; else local.")
@click.option("--baud", type=click.IntRange(1200, 4_000_000), default=115200, metavar="N", help="[115200]")
def command(home: Place, form: Form, *, ports: tuple[str, ...], name: str | None, baud: int) -> None:
    """Carry the renewals of devices without TLS: visit the one on each port once.

    A device says by itself whether it is due, and signs what it asks. Run it from a timer, a few times a day;
    a visit that was cut off is gone on with at the next.
    """
    place = (
        Workplace.elsewhere(home, name)
        if isinstance(home, Remote)
        else Workplace.at_home(open_home(home), name)
    )
    visits = asyncio.run(_visit_all(place, ports, baud=baud))
    show_list(visits, form, columns=_COLUMNS)
    has_failed = any(visit["outcome"] == _FAILED for visit in visits)
    click.get_current_context().exit(ExitCode.FAILED if has_failed else ExitCode.DONE)


async def _visit_all(place: Workplace, ports: tuple[str, ...], *, baud: int) -> list[Members]:
    from contextlib import AsyncExitStack  # noqa: PLC0415 - the station's parts, needed here only

    from fleet.cli.station_renewing import renewing  # noqa: PLC0415 - as above
    from fleet.station.gateway import Gateway  # noqa: PLC0415 - as above
    from fleet.station.server.courier import HttpCourier  # noqa: PLC0415 - as above

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(place.served())
        identity = (await renewing(stack, place)).identity
        courier = await stack.enter_async_context(HttpCourier.opened(place.server_again()))
        gateway = Gateway(identity=identity, courier=courier, servers=place.anchors, clock=_now)
        return list(
            await asyncio.gather(*(_visit(gateway, port, baud=baud) for port in dict.fromkeys(ports)))
        )


async def _visit(gateway: "Gateway", port: str, *, baud: int) -> Members:
    """Visit one port; what goes wrong on it stays on it."""
    from fleet.station.link import port as serial_port  # noqa: PLC0415 - as above
    from fleet.station.link.conversation import Conversation  # noqa: PLC0415 - as above
    from fleet.station.link.pace import Pace  # noqa: PLC0415 - as above

    try:
        with serial_port.opened(port, baud=baud) as line:
            conversation = Conversation(line, pace=Pace(baud=baud), randomness=secrets.token_bytes)
            visit = await gateway.visit(conversation)
    except FleetError as error:
        return _row(port, outcome=_FAILED, why=str(error))
    return _row(port, outcome=visit.outcome.value, device_id=visit.device_id, serial=visit.serial)


def _row(port: str, *, outcome: str, device_id: str = "", serial: str = "", why: str = "") -> Members:
    return {"port": port, "device_id": device_id, "outcome": outcome, "serial": serial, "why": why}


def _now() -> datetime:
    return datetime.now(UTC)

"""`fleet station sync`: tells the server what a station did, once, without a line."""

import asyncio

import click

from fleet.cli import options
from fleet.cli.options import Place
from fleet.cli.output import Form, Members, show_record

_NAMES = {
    "station": "station",
    "forwarded": "certificates fetched",
    "confirmed": "units confirmed",
    "entries": "journal entries there",
    "clock_ahead": "its clock is ahead by",
}


@click.command("sync")
@options.record
@click.argument("station", required=False)
def command(home: Place, form: Form, *, station: str | None) -> None:
    """At the station: hand in its journal, fetch what its units wait for, and take the rules that hold.

    A line that runs does this itself; this is for a station that stands still.
    """
    show_record(asyncio.run(_sync(home, station)), form, names=_NAMES)


async def _sync(home: Place, station: str | None) -> Members:
    from contextlib import AsyncExitStack  # noqa: PLC0415 - the station's parts, needed here only

    from fleet.cli.bearer import utc_now  # noqa: PLC0415 - as above
    from fleet.cli.station_renewing import renewing  # noqa: PLC0415 - as above
    from fleet.cli.workplace import place_of  # noqa: PLC0415 - as above
    from fleet.station.keeping.ledger import Ledger  # noqa: PLC0415 - as above
    from fleet.station.making.clerk import Clerk  # noqa: PLC0415 - as above
    from fleet.station.making.ids import IdRule  # noqa: PLC0415 - as above
    from fleet.station.server.authority import HttpEnroller  # noqa: PLC0415 - as above

    place = place_of(home, station)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(place.served())
        renewal = await renewing(stack, place)
        opening = Ledger.opened(place.ledger, clock=utc_now, identity=renewal.identity)
        ledger = await stack.enter_async_context(opening)
        enroller = HttpEnroller(renewal.way, servers=place.anchors)
        clerk = Clerk(ledger=ledger, enroller=enroller, ids=IdRule(), recaller=enroller)
        forwarded = [unit async for unit in clerk.forward()]
        confirmed = [serial async for serial in clerk.sync()]
        await clerk.carry_out()
        receipt = await clerk.upload()
    return {
        "station": place.station,
        "forwarded": len(forwarded),
        "confirmed": len(confirmed),
        "entries": receipt.head.number,
        "clock_ahead": f"{round((utc_now() - receipt.now).total_seconds())} s",
    }

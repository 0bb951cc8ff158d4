"""`fleet station ...`: factory stations, and the line itself."""

import click

from fleet.cli import (
    station_carry,
    station_keep,
    station_lease,
    station_people,
    station_release,
    station_renew,
    station_report,
    station_run,
    station_sync,
)


@click.group()
def command() -> None:
    """Factory stations: computers that give devices their certificates over a serial line."""


for each in (
    *station_keep.COMMANDS,
    *station_renew.COMMANDS,
    station_people.command,
    station_report.command,
    station_lease.command,
    station_sync.command,
    station_run.command,
    station_carry.command,
    *station_release.COMMANDS,
):
    command.add_command(each)

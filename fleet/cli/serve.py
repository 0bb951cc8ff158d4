"""`fleet serve`: runs all that the configuration names, until it is told to stop."""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import click

from fleet.cli import options
from fleet.cli.output import say, write_text
from fleet.config import load
from fleet.home import open_home
from fleet.log import begin
from fleet.watching_sections import LogLevel


@click.command()
@options.home
@click.option("--verbose", "-v", is_flag=True, help="Tell more of what happens, on stderr.")
@click.option("--reload", is_flag=True, help="Make the server that runs read brought certificates again.")
def command(home: Path, *, verbose: bool, reload: bool) -> None:
    """Run the server: broker, enrollment, renewal, certificate status.

    Prints `ready` when all listeners answer. SIGTERM or Ctrl-C ends it; a managed Mosquitto goes on
    enforcing, unless fleet.toml says otherwise. SIGHUP does as --reload.
    """
    if reload:
        from fleet.cli import own  # noqa: PLC0415 - for this option only

        own.reload(home)
        return
    from fleet.ra.context import Endpoints  # noqa: PLC0415 - the whole server, needed here only
    from fleet.service import serve  # noqa: PLC0415 - as above

    log = load(open_home(home).config).log
    writer = begin(replace(log, level=LogLevel.DEBUG) if verbose else log, sys.stderr)

    def ready(endpoints: Endpoints) -> None:
        say(f"devices enroll at   {endpoints.host}:{endpoints.mqtt_bootstrap_port} (MQTT, with a claim)")
        say(f"devices connect to  {endpoints.host}:{endpoints.mqtt_port} (MQTT, mTLS)")
        say(f"devices recover at  https://{endpoints.host}:{endpoints.https_port}")
        say(f"certificate status  {endpoints.status_url}")
        write_text("ready")

    try:
        asyncio.run(serve(home, ready=ready))
    finally:
        writer.close()

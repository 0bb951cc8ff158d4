"""`fleet serve`: runs all that the configuration names, until it is told to stop."""

import asyncio
import logging
import sys
from pathlib import Path

import click

from fleet.cli import options
from fleet.cli.output import say, visible, write_text


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

    _log_to_stderr(logging.DEBUG if verbose else logging.INFO)

    def ready(endpoints: Endpoints) -> None:
        say(f"devices enroll at   {endpoints.host}:{endpoints.mqtt_bootstrap_port} (MQTT, with a claim)")
        say(f"devices connect to  {endpoints.host}:{endpoints.mqtt_port} (MQTT, mTLS)")
        say(f"devices recover at  https://{endpoints.host}:{endpoints.https_port}")
        say(f"certificate status  {endpoints.status_url}")
        write_text("ready")

    asyncio.run(serve(home, ready=ready))


class _Plain(logging.Formatter):
    """One line for each record; what a terminal would obey is shown, not sent."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(visible(line) for line in super().format(record).splitlines())


def _log_to_stderr(level: int) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain("%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"))
    ours = logging.getLogger("fleet")
    ours.addHandler(handler)
    ours.setLevel(level)
    others = logging.getLogger()
    others.addHandler(handler)
    others.setLevel(logging.WARNING)
    ours.propagate = False

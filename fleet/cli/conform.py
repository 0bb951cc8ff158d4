"""`fleet conform`: what does a device, or a client in any language, do wrong?"""

import asyncio
import secrets
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.cli import options
from fleet.cli.conformance.check import Outcome, Result, is_conformant
from fleet.cli.output import Form, say, visible, write_json, write_text
from fleet.errors import BadInputError, ExitCode, UnreachableError, UsageError
from fleet.files import PUBLIC_MODE, make_folder, write_file

if TYPE_CHECKING:
    from fleet.cli.conformance.workshop import Workshop

_MARKS = {Outcome.PASS: "pass", Outcome.FAIL: "FAIL", Outcome.NOT_REACHED: "-"}
_HIGHEST_PORT = 65535
_WIDTH = 80


@click.command()
@options.as_json
@click.option("--port", metavar="P", help="A serial port: checks the factory link of the device behind it.")
@click.option("--mqtt", metavar="HOST:PORT", help="Be a broker here, and check the client that connects.")
@click.option("--device", "device_id", default="conform-1", metavar="ID", help="[conform-1]")
@click.option("--baud", type=click.IntRange(1200, 4_000_000), default=115200, metavar="N", help="[115200]")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("conform"),
    metavar="DIR",
    help="Where what the device needs is put: trust.pem, and for MQTT claim.crt, claim.key, code. [conform]",
)
@click.option(
    "--patience", type=click.IntRange(1, 3600), default=60, metavar="S", help="Seconds for each step. [60]"
)
def command(
    form: Form,
    *,
    port: str | None,
    mqtt: str | None,
    device_id: str,
    baud: int,
    out: Path,
    patience: int,
) -> None:
    """Check a device or a client of yours against the rules that ours follow.

    The kit plays the station or the server, with keys that it throws away afterwards. It first does what is
    wrong on purpose: answers get lost, come twice, are somebody else's. Needs no fleet home.
    """
    if (port is None) == (mqtt is None):
        raise UsageError("name either a port or an address", hint="fleet conform --port /dev/ttyUSB0")
    device_id = options.device_id(device_id)
    shown = _Shown(form)
    if port is not None:
        results = asyncio.run(_serial(port, baud=baud, device_id=device_id, out=out, shown=shown))
    else:
        host, number = _address(mqtt or "")
        results = asyncio.run(
            _mqtt(host, number, device_id=device_id, out=out, patience=patience, shown=shown)
        )
    shown.end(results)
    if not is_conformant(results):
        raise click.exceptions.Exit(ExitCode.NEEDS_ATTENTION)


def _wrapped(head: str, text: str) -> str:
    """Return a text in lines that fit on a terminal; nothing that a person would copy is broken."""
    return textwrap.fill(
        visible(text),
        width=_WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )


class _Shown:
    """Results as they come, in words; as JSON all at the end."""

    def __init__(self, form: Form) -> None:
        self._form = form

    def report(self, result: Result) -> None:
        """Show one result."""
        if self._form is not Form.TABLE:
            return
        write_text(_wrapped(f"{_MARKS[result.outcome]:<5} {result.name:<16} ", result.title))
        if result.outcome is Outcome.FAIL:
            for word, text in (("found", result.detail), ("rule", result.rule), ("do", result.advice)):
                write_text(_wrapped(f"      {word:<8} ", text))

    def end(self, results: Sequence[Result]) -> None:
        """Show the sum."""
        if self._form is not Form.TABLE:
            write_json([asdict(result) for result in results])
            return
        counts = [sum(result.outcome is outcome for result in results) for outcome in Outcome]
        say(f"{counts[0]} passed, {counts[1]} failed, {counts[2]} not reached")


async def _serial(port: str, *, baud: int, device_id: str, out: Path, shown: _Shown) -> tuple[Result, ...]:
    from fleet.cli.conformance.serial_course import check_serial  # noqa: PLC0415 - the station's parts
    from fleet.cli.conformance.workshop import Workshop  # noqa: PLC0415 - as above
    from fleet.station.link.port import opened  # noqa: PLC0415 - as above

    workshop = Workshop.opened()
    make_folder(out)
    write_file(out / "trust.pem", workshop.servers_root.pem.encode(), mode=PUBLIC_MODE)
    say(f"start the device on the other end of {port}; it may trust {out / 'trust.pem'}, or nobody yet")
    with opened(port, baud=baud) as line:
        return await check_serial(line, workshop=workshop, device_id=device_id, report=shown.report)


async def _mqtt(
    host: str, port: int, *, device_id: str, out: Path, patience: int, shown: _Shown
) -> tuple[Result, ...]:
    from fleet.cli.conformance.mqtt_client import Client  # noqa: PLC0415 - needed here only
    from fleet.cli.conformance.mqtt_course import check_mqtt  # noqa: PLC0415 - as above
    from fleet.cli.conformance.mqtt_server import serving  # noqa: PLC0415 - as above
    from fleet.cli.conformance.workshop import Workshop  # noqa: PLC0415 - as above

    workshop, code = Workshop.opened(), secrets.token_hex(10)
    _hand_out(workshop, code, out)
    try:
        async with serving(workshop, host=host, port=port) as server:
            say(f"enroll {device_id} at {host}:{server.port}, with what is in {out}")
            client = Client(
                server=server,
                workshop=workshop,
                device_id=device_id,
                code=code,
                host=host,
                patience=patience,
                waits=lambda what: say(f"waiting for {what}"),
            )
            return await check_mqtt(client, report=shown.report)
    except OSError as error:
        raise UnreachableError(f"cannot listen on {host}:{port}: {error.strerror}") from error


def _hand_out(workshop: "Workshop", code: str, out: Path) -> None:
    claim = workshop.claim()
    make_folder(out)
    write_file(out / "trust.pem", workshop.servers_root.pem.encode(), mode=PUBLIC_MODE)
    write_file(out / "claim.crt", (claim.pem + workshop.servers.pem).encode(), mode=PUBLIC_MODE)
    write_file(out / "claim.key", claim.key_pem.encode())
    write_file(out / "code", f"{code}\n".encode())


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > _HIGHEST_PORT:
        raise BadInputError("--mqtt needs HOST:PORT, such as localhost:8883; port 0 takes a free one")
    return host.strip("[]"), int(port)

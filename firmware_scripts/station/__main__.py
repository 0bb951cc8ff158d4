"""`python -m firmware_scripts.station`: writes the files that make a computer a factory station."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from firmware_scripts.station.files import Station, texts
from fleet.errors import FleetError
from fleet.station.line.hotplug import UsbRule

_EXIT_BAD_INPUT = 6
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?", re.ASCII)
_SERVER = re.compile(r"https://[A-Za-z0-9.\-\[\]:]{1,260}", re.ASCII)


def parser() -> argparse.ArgumentParser:
    """Return the command line of this script."""
    made = argparse.ArgumentParser(prog="python -m firmware_scripts.station", description=__doc__)
    made.add_argument("--station", required=True, metavar="NAME", help="as fleet station add named it")
    made.add_argument("--server", required=True, metavar="URL", help="such as https://fleet.example.org:8443")
    made.add_argument(
        "--usb",
        required=True,
        action="append",
        metavar="VID:PID[:SERIAL]",
        help="the line's adapters; may be repeated",
    )
    made.add_argument("--output", required=True, type=Path, metavar="DIR", help="the folder to write into")
    made.add_argument("run", nargs="*", metavar="WORD", help="after --: more words of fleet station run")
    return made


def station_of(arguments: argparse.Namespace) -> Station:
    """Return the checked station; raises ValueError with what to do."""
    if not _NAME.fullmatch(arguments.station):
        raise ValueError("--station must be the name of a station, such as line3")
    if not _SERVER.fullmatch(arguments.server):
        raise ValueError("--server must be https://HOST:PORT")
    try:
        rules = tuple(UsbRule.parse(text) for text in arguments.usb)
    except FleetError as error:
        raise ValueError(str(error)) from error
    if any(set(rule.serial or "") & set('"\\$%*?[]|') for rule in rules):
        raise ValueError("a serial number with signs that udev reads as its own: name VID:PID alone")
    return Station(name=arguments.station, server=arguments.server, usb=rules, more=tuple(arguments.run))


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files; return the exit code."""
    arguments = parser().parse_args(argv)
    try:
        found = tuple(texts(station_of(arguments)))
        for name, text in found:
            path = arguments.output / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    except (ValueError, OSError) as error:
        told = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        print(f"error: {told}", file=sys.stderr)
        return _EXIT_BAD_INPUT
    for name, _ in found:
        print(arguments.output / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())

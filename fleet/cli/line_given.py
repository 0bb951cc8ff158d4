"""What was given on the command line of `fleet station run`, made into a line or refused."""

from pathlib import Path
from typing import TypedDict

from fleet.cli.line import Hook, Line
from fleet.cli.options import Place
from fleet.cli.workplace import place_of
from fleet.errors import UsageError
from fleet.files import read_secret
from fleet.station.drivers.choice import Choice, Drivers, HostKeys, Name, drivers_of
from fleet.station.line.hotplug import UsbRule
from fleet.station.line.jig import Jig
from fleet.station.line.scanner import Use
from fleet.station.making.ids import IdRule
from fleet.station.telling.printer import LabelPrinter
from fleet.station.telling.result_file import ResultFile
from fleet.station.telling.result_hook import require_url


class Given(TypedDict):
    """The options by their names."""

    ports: tuple[str, ...]
    usb: tuple[str, ...]
    name: str | None
    batch: str
    ids: Path | None
    prefix: str | None
    models: tuple[str, ...]
    baud: int
    driver: str
    settings: tuple[str, ...]
    host_keys: bool
    language: str | None
    headless: bool
    scanner: str | None
    jig: str | None
    jig_seconds: float
    results: Path | None
    results_url: str | None
    results_secret_file: Path | None
    label: str | None
    printer: str | None


def line_of(home: Place, given: Given) -> Line:
    """Return the line that was asked for.

    Raises:
        UsageError: options do not go together, or one is missing.
        FleetError: a file or a name is not what it should be.
    """
    if not given["ports"] and not given["usb"]:
        raise UsageError("no port was named", hint="--port /dev/ttyUSB0, or --usb 0403:6001")
    ids, scanner, jig, results = given["ids"], given["scanner"], given["jig"], given["results"]
    return Line(
        usb=tuple(UsbRule.parse(rule) for rule in given["usb"]),
        ids=IdRule(prefix=given["prefix"]) if ids is None else IdRule.from_list(ids),
        ports=given["ports"],
        batch=given["batch"],
        models=frozenset(given["models"]),
        baud=given["baud"],
        drivers=_drivers(given),
        scanner=None if scanner is None else Use(scanner),
        jig=None if jig is None else Jig.parse(jig, seconds=given["jig_seconds"]),
        results=None if results is None else ResultFile.parse(results),
        hook=_hook(given),
        printer=_printer(given["printer"], given["label"]),
        place=place_of(home, given["name"]),
    )


def _drivers(given: Given) -> Drivers | None:
    settings = dict(_setting(text) for text in given["settings"])
    allowed = HostKeys.ALLOWED if given["host_keys"] else HostKeys.REFUSED
    choice = Choice(name=Name(given["driver"]), settings=settings, host_keys=allowed)
    return drivers_of(choice, baud=given["baud"])


def _setting(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise UsageError(f"{text!a} is no setting of a driver", hint="--set NAME=VALUE")
    return name, value


def _hook(given: Given) -> Hook | None:
    url, file = given["results_url"], given["results_secret_file"]
    if url is None:
        return None
    return Hook(url=require_url(url), secret=None if file is None else read_secret(file))


def _printer(printer: str | None, label: str | None) -> LabelPrinter | None:
    if printer is None and label is None:
        return None
    if printer is None or label is None:
        raise UsageError("labels need a template and a printer", hint="--label zpl --printer tcp:192.0.2.9")
    return LabelPrinter.parse(printer, label)

"""`python -m firmware_scripts.esp`: makes the partition images of a batch of ESP32s, each with its own key.

The list for `fleet device import` goes to stdout, talk to stderr. Who runs it again gets the same images.
"""

import argparse
import base64
import csv
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from firmware_scripts.esp import nvs
from firmware_scripts.esp.batch import MAX_LIST, Fleet, Images, Unit, make_images, read_units
from fleet.errors import FleetError
from fleet.files import make_folder
from fleet.station.drivers import esp_secure_cert

_EXIT_BAD_INPUT = 6
_HOST_AND_PORT = re.compile(r"[A-Za-z0-9.\-\[\]:]{1,253}:[0-9]{1,5}", re.ASCII)
_NOTE = "key made on the host that wrote its image"
_OFTEN = 100


def parser() -> argparse.ArgumentParser:
    """Return the command line of this script."""
    made = argparse.ArgumentParser(prog="python -m firmware_scripts.esp", description=__doc__)
    made.add_argument(
        "--devices", required=True, type=Path, metavar="CSV", help="columns device_id and, if known, hardware"
    )
    made.add_argument("--bootstrap", required=True, metavar="HOST:PORT", help="the bootstrap listener")
    made.add_argument("--trust", required=True, type=Path, metavar="PEM", help="what the server is known by")
    made.add_argument(
        "--output",
        required=True,
        type=Path,
        metavar="FOLDER",
        help="where the images go; they hold private keys",
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Make the images, print the list; return the exit code."""
    arguments = parser().parse_args(argv)
    try:
        _make(arguments)
    except (ValueError, OSError, FleetError) as error:
        told = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        print(f"error: {told}", file=sys.stderr)
        return _EXIT_BAD_INPUT
    return 0


def _make(arguments: argparse.Namespace) -> None:
    if not _HOST_AND_PORT.fullmatch(arguments.bootstrap):
        raise ValueError("--bootstrap must be HOST:PORT")
    anchors = x509.load_pem_x509_certificates(_read(arguments.trust).encode())
    fleet = Fleet(
        bootstrap=arguments.bootstrap, anchors=tuple(one.public_bytes(Encoding.DER) for one in anchors)
    )
    units = read_units(_read(arguments.devices))
    make_folder(arguments.output)
    made: list[tuple[Unit, Images]] = []
    for unit in units:
        made.append((unit, make_images(unit, fleet, arguments.output)))
        if len(made) % _OFTEN == 0:
            print(f"{len(made)} of {len(units)} devices", file=sys.stderr)
    _tell(made)


def _tell(made: Sequence[tuple[Unit, Images]]) -> None:
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["device_id", "hardware", "public_key", "note"])
    for unit, images in made:
        table.writerow([unit.device_id, unit.hardware, base64.b64encode(images.public_key).decode(), _NOTE])
    print(f"{len(made)} devices: two images each", file=sys.stderr)
    if made:
        _, first = made[0]
        places = f"{nvs.OFFSET:#x}={first.nvs} {esp_secure_cert.OFFSET:#x}={first.secure_cert}"
        print(f"write them: python -m firmware_scripts.flash esp --port PORT {places}", file=sys.stderr)


def _read(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(MAX_LIST + 1)
    if len(content) > MAX_LIST:
        raise ValueError(f"{path} is too large: at most {MAX_LIST >> 20} MiB")
    return content.decode()


if __name__ == "__main__":
    sys.exit(main())

"""`python -m firmware_scripts.flash`: writes images into a device, by the tool that its maker gives it.

Every file is read and judged before a device is touched. Talk goes to stderr, and the exit code tells.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from firmware_scripts.flash.images import parse_images, parse_place, read_image
from firmware_scripts.flash.tools import esptool, pyocd
from firmware_scripts.flash.uf2 import FAMILIES, check, put, uf2

_EXIT_BAD_INPUT = 6


def parser() -> argparse.ArgumentParser:
    """Return the command line of this script."""
    made = argparse.ArgumentParser(prog="python -m firmware_scripts.flash", description=__doc__)
    commands = made.add_subparsers(dest="command", required=True)
    esp = commands.add_parser("esp", help="write images into an ESP's flash over its serial port (esptool)")
    esp.add_argument("--port", required=True, metavar="PORT", help="the serial port")
    esp.add_argument(
        "--chip", default="auto", metavar="NAME", help="as esptool names it; it finds out itself"
    )
    esp.add_argument("--baud", type=int, default=460800, metavar="N", help="bits a second (default: 460800)")
    esp.add_argument(
        "images", nargs="+", metavar="PLACE=FILE", help="an offset in flash, and what goes there"
    )
    probe = commands.add_parser("probe", help="write a file into a chip over a debug probe (pyocd)")
    probe.add_argument(
        "--target", required=True, metavar="NAME", help="the chip, as pyocd list --targets has it"
    )
    probe.add_argument("--probe", metavar="ID", help="the probe's own number, where there are several")
    probe.add_argument("--base", type=parse_place, metavar="ADDRESS", help="where a .bin goes")
    probe.add_argument("file", type=Path, metavar="FILE", help="a .hex, .elf or .bin")
    drive = commands.add_parser("uf2", help="copy firmware to the drive of a board in its UF2 bootloader")
    drive.add_argument(
        "--drive", required=True, type=Path, metavar="FOLDER", help="where the drive is mounted"
    )
    drive.add_argument("--family", choices=sorted(FAMILIES), help="the chip; what is no .uf2 yet needs it")
    drive.add_argument("--base", type=parse_place, metavar="ADDRESS", help="where a .bin goes")
    drive.add_argument("file", type=Path, metavar="FILE", help="a .uf2 or a .bin")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    arguments = parser().parse_args(argv)
    try:
        {"esp": _esp, "probe": _probe, "uf2": _uf2}[arguments.command](arguments)
    except (ValueError, OSError) as error:
        told = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        print(f"error: {told}", file=sys.stderr)
        return _EXIT_BAD_INPUT
    return 0


def _esp(arguments: argparse.Namespace) -> None:
    images = parse_images(arguments.images)
    esptool(images, chip=arguments.chip, port=arguments.port, baud=arguments.baud)


def _probe(arguments: argparse.Namespace) -> None:
    needs_base = arguments.file.suffix == ".bin"
    if needs_base != (arguments.base is not None):
        raise ValueError("a .bin needs --base, and no other file may have it: .hex and .elf know their place")
    read_image(arguments.file, place=arguments.base or 0)
    pyocd(arguments.file, target=arguments.target, place=arguments.base, probe=arguments.probe)


def _uf2(arguments: argparse.Namespace) -> None:
    made_here = arguments.file.suffix != ".uf2"
    if made_here != (arguments.base is not None and arguments.family is not None):
        raise ValueError("a .bin needs --family and --base; a .uf2 knows its own and may have neither")
    image = read_image(arguments.file, place=arguments.base or 0)
    blocks = uf2(image, family=FAMILIES[arguments.family]) if made_here else image.octets
    check(blocks, path=arguments.file)
    put(blocks, drive=arguments.drive)
    print(
        f"wrote {len(blocks) // 512} blocks to {arguments.drive}; the board starts by itself", file=sys.stderr
    )


if __name__ == "__main__":
    sys.exit(main())

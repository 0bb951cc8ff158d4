"""`python -m firmware_scripts.mcu`: builds the reference firmware, programs units, runs one, signs images.

Data goes to stdout, talk to stderr. The same input gives the same files.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from device_agent.errors import AgentError
from device_agent.wire.problems import MalformedMessageError
from firmware_scripts.mcu.building import BuildError, Workshop, default_workshop, text_bytes
from firmware_scripts.mcu.emulator import PROGRAM, Board
from firmware_scripts.mcu.images import flat_image
from firmware_scripts.mcu.passport import Passport, flash_image, read_anchors
from firmware_scripts.mcu.signing import Slot, key_of, sign_image, verify_image

_EXIT_FAILED = 1
_EXIT_BAD_INPUT = 6


def parser() -> argparse.ArgumentParser:
    """Return the command line of this script."""
    made = argparse.ArgumentParser(prog="python -m firmware_scripts.mcu", description=__doc__)
    commands = made.add_subparsers(dest="command", required=True)
    _add_build(commands.add_parser("build", help="build the firmware with cargo"))
    _add_passport(commands.add_parser("passport", help="make the flash image of a new unit"))
    _add_run(commands.add_parser("run", help="run the firmware in QEMU on a serial port"))
    _add_sign(commands.add_parser("sign", help="sign an image for the boot loader MCUboot"))
    _add_verify(commands.add_parser("verify", help="check a signed image as the boot loader does"))
    return made


def _add_build(command: argparse.ArgumentParser) -> None:
    command.set_defaults(act=_build)
    command.add_argument("--work", type=Path, metavar="DIR", help="where cargo works [~/.cache/fleet-mcu]")
    command.add_argument("--output", required=True, type=Path, metavar="ELF", help="the file to write")


def _add_passport(command: argparse.ArgumentParser) -> None:
    command.set_defaults(act=_passport)
    command.add_argument("--hardware-id", required=True, metavar="ID", help="the unit's own number")
    command.add_argument("--model", default="mps2-an386", metavar="TEXT", help="[mps2-an386]")
    command.add_argument(
        "--trust",
        action="append",
        default=[],
        type=Path,
        metavar="PEM",
        help="the fleet's trust/server.pem; without it the unit believes the first station that it meets",
    )
    command.add_argument("--output", required=True, type=Path, metavar="FLASH", help="the file to write")


def _add_run(command: argparse.ArgumentParser) -> None:
    command.set_defaults(act=_run)
    command.add_argument("--firmware", required=True, type=Path, metavar="ELF", help="what build has written")
    command.add_argument("--flash", required=True, type=Path, metavar="FILE", help="the unit's flash")
    command.add_argument("--port", required=True, metavar="TTY", help="the device's end of the line")


def _add_sign(command: argparse.ArgumentParser) -> None:
    command.set_defaults(act=_sign)
    command.add_argument("--key", required=True, metavar="PEM|URI", help="a P-256 key: a file, or pkcs11:...")
    command.add_argument("--version", required=True, metavar="X.Y.Z", help="of the image")
    command.add_argument("--slot-size", required=True, type=_number, metavar="N", help="bytes of the slot")
    command.add_argument("--header-size", default=0x200, type=_number, metavar="N", help="[0x200]")
    command.add_argument("--align", default=8, type=int, choices=(1, 2, 4, 8, 16, 32), help="[8]")
    command.add_argument("image", type=Path, metavar="ELF|BIN")
    command.add_argument("--output", required=True, type=Path, metavar="BIN", help="the file to write")


def _add_verify(command: argparse.ArgumentParser) -> None:
    command.set_defaults(act=_verify)
    command.add_argument("--key", required=True, metavar="PEM|URI", help="the key that signed it")
    command.add_argument("image", type=Path, metavar="BIN")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    arguments = parser().parse_args(argv)
    act: Callable[[argparse.Namespace], int] = arguments.act
    try:
        return act(arguments)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return _EXIT_FAILED
    except (ValueError, OSError, AgentError, MalformedMessageError) as error:
        told = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        print(f"error: {told}", file=sys.stderr)
        return _EXIT_BAD_INPUT


def _build(arguments: argparse.Namespace) -> int:
    workshop = Workshop(folder=arguments.work.absolute()) if arguments.work else default_workshop()
    shutil.copyfile(workshop.build(), arguments.output)
    print(f"wrote {arguments.output}: {text_bytes(arguments.output)} bytes of flash", file=sys.stderr)
    return 0


def _passport(arguments: argparse.Namespace) -> int:
    anchors = read_anchors(arguments.trust)
    passport = Passport(hardware_id=arguments.hardware_id, model=arguments.model, anchors=anchors)
    image = flash_image(passport)
    arguments.output.write_bytes(image)
    if Passport.read(arguments.output.read_bytes()) != passport:
        raise OSError(5, "what was written cannot be read back", str(arguments.output))
    print(f"wrote {arguments.output}: unit {passport.hardware_id}, {len(anchors)} anchors", file=sys.stderr)
    return 0


def _run(arguments: argparse.Namespace) -> int:
    if shutil.which(PROGRAM) is None:
        raise ValueError(f"{PROGRAM} is not installed: apt-get install {PROGRAM}")
    Passport.read(arguments.flash.read_bytes())
    board = Board(elf=arguments.firmware, flash=arguments.flash, folder=arguments.flash.with_suffix(".qemu"))
    board.widen()
    board.lay_out()
    # QEMU takes the place of this process: whoever ends it cuts the unit's power, and nothing is left.
    command = board.command(f"serial,path={arguments.port}")
    os.execvp(command[0], command)  # noqa: S606 - an argument list, as everywhere here


def _sign(arguments: argparse.Namespace) -> int:
    image = arguments.image.read_bytes()
    if image.startswith(b"\x7fELF"):
        image = flat_image(arguments.image)
    slot = Slot(
        version=arguments.version,
        size=arguments.slot_size,
        header=arguments.header_size,
        align=arguments.align,
    )
    with key_of(arguments.key) as key:
        signed = sign_image(image, key, slot)
    arguments.output.write_bytes(signed)
    print(f"wrote {arguments.output}: version {slot.version}, {len(signed)} bytes", file=sys.stderr)
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    with key_of(arguments.key) as key:
        verify_image(arguments.image, key)
    print(f"{arguments.image} is signed by this key", file=sys.stderr)
    return 0


def _number(text: str) -> int:
    return int(text, 0)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m firmware_scripts.token`: prepares a token for a device, or makes a key in one for a list.

Data goes to stdout, talk to stderr. No PIN stands on a command line or in what is printed.
"""

import argparse
import base64
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from device_agent.errors import AgentError
from device_agent.keys.pkcs11 import TokenKeyStore
from device_agent.keys.uri import parse_token_uri
from device_agent.wire.identity import parse_device_id
from device_agent.wire.problems import MalformedMessageError
from firmware_scripts.token.preparing import Preparation, prepare

_EXIT_BAD_INPUT = 6
_KEY = "made"


def parser() -> argparse.ArgumentParser:
    """Return the command line of this script."""
    made = argparse.ArgumentParser(prog="python -m firmware_scripts.token", description=__doc__)
    commands = made.add_subparsers(dest="command", required=True)
    init = commands.add_parser(
        "init", help="initialise an empty token; print the URI that device-agent enroll --key takes"
    )
    init.add_argument(
        "--module", required=True, type=Path, metavar="PATH", help="the token's PKCS#11 library"
    )
    init.add_argument("--label", required=True, metavar="NAME", help="the token's new name")
    init.add_argument(
        "--pin-file", required=True, type=Path, metavar="FILE", help="its PIN; made if it is not there"
    )
    init.add_argument(
        "--so-pin-file",
        required=True,
        type=Path,
        metavar="FILE",
        help="the PIN of its security officer; made if it is not there. Keep it apart from the device",
    )
    key = commands.add_parser("key", help="make a key inside a token; print the line for fleet device import")
    key.add_argument("--key", required=True, metavar="URI", help="the token, as init has printed it")
    key.add_argument("--device", required=True, metavar="ID", help="the device that has this token")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    arguments = parser().parse_args(argv)
    try:
        (_init if arguments.command == "init" else _key)(arguments)
    except (ValueError, OSError, AgentError, MalformedMessageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return _EXIT_BAD_INPUT
    return 0


def _init(arguments: argparse.Namespace) -> None:
    wanted = Preparation(
        module=arguments.module.absolute(),
        label=arguments.label,
        pin_file=arguments.pin_file.absolute(),
        so_pin_file=arguments.so_pin_file.absolute(),
    )
    parse_token_uri(wanted.uri)
    token = prepare(wanted)
    print(f"token {token.label}: {token.manufacturer} {token.model}, serial {token.serial}", file=sys.stderr)
    print(wanted.uri)


def _key(arguments: argparse.Namespace) -> None:
    device_id = parse_device_id(arguments.device)
    uri = replace(parse_token_uri(arguments.key), object=device_id)
    with tempfile.TemporaryDirectory() as folder:
        keys = TokenKeyStore(uri, refused_pins=Path(folder, "pin-refused"))
        # It is made once: who repeats the command gets the line of the same key.
        signer = keys.open(_KEY) if _KEY in keys.names() else keys.create(_KEY)
    print(f"the key is {keys.reference(_KEY)}", file=sys.stderr)
    print("device_id,public_key")
    print(f"{device_id},{base64.b64encode(signer.public_key_der).decode()}")


if __name__ == "__main__":
    sys.exit(main())

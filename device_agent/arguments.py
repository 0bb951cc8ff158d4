"""The command line of `device-agent`. The reference page is made from it."""

import argparse
import os
import sys
import textwrap
from pathlib import Path
from typing import Never

from device_agent import __version__
from device_agent.errors import ExitCode

DEFAULT_STATE = "/var/lib/device-agent"

_EXIT_CODES = """exit codes:
  0 done, 1 failed, 2 usage, 3 refused, 4 no certificate yet, 5 cannot reach,
  6 bad input, 7 needs attention"""
_ENROLL_EXAMPLES = """examples:
  device-agent enroll --mqtt fleet.example:8884 --device line3-0042 \\
      --code-file code.txt --claim public-claim.crt,public-claim.key \\
      --trust server.pem
  device-agent enroll --est https://fleet.example:8443/prod \\
      --device line3-0042 --code-file code.txt --trust server.pem
  device-agent enroll --serial /dev/ttyUSB0"""

_RECOVER_EXAMPLES = """examples:
  device-agent recover                        asks for the code, or takes it
                                              from a pipe or a scanner
  device-agent recover --hardware             its TPM, token or manufacturer's
                                              certificate speaks for it
  device-agent recover --serial /dev/ttyUSB0  a station has the code"""
_COLUMNS = 79


class _Parser(argparse.ArgumentParser):
    """A parser whose errors look as all of ours do."""

    def error(self, message: str) -> Never:
        print(f"error: {message}\nhint: {_usage_hint(message, self.prog)}", file=sys.stderr)
        raise SystemExit(ExitCode.USAGE)


def _filled(text: str) -> str:
    """Return a description in lines: beside examples, which are left as they are, nothing wraps it."""
    return textwrap.fill(text, _COLUMNS)


def _usage_hint(message: str, prog: str) -> str:
    """Return where to look; options of every command are put after it by habit."""
    unknown = message.removeprefix("unrecognized arguments: ")
    if unknown.startswith(("--state", "--identity", "--verbose")):
        return "--state, --identity and --verbose stand before the command"
    return f"{prog} --help"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = _Parser(
        prog="device-agent",
        description=_filled(
            "Keeps this device's identity: makes the key, enrolls, renews the certificate in time."
        ),
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"device-agent {__version__}")
    parser.add_argument("--verbose", action="store_true", help="tell more on stderr")
    parser.add_argument(
        "--state",
        metavar="DIR",
        type=Path,
        default=Path(os.environ.get("DEVICE_AGENT_STATE", DEFAULT_STATE)),
        help=f"state folder; default $DEVICE_AGENT_STATE, else {DEFAULT_STATE}",
    )
    parser.add_argument(
        "--identity",
        metavar="DOMAIN",
        default="",
        help="the device's identity in this further domain; default its own, and with run, status and doctor "
        "all that it has",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    _add_enroll(commands)
    _add_run(commands)
    command = _add(commands, "exec", "run a program that uses this device's identity")
    command.add_argument("program", metavar="-- PROGRAM [ARGUMENT ...]", nargs=argparse.REMAINDER)
    _add_recover(commands)
    renew = _add(commands, "renew", "renew now: the running agent does, or this command by itself")
    _add_lend(renew)
    _add_json(renew)
    _add_json(_add(commands, "status", "tell who this device is and what it holds"))
    trust = _add(commands, "trust", "tell which roots this device trusts, or take a trust bundle from a file")
    trust.add_argument("file", metavar="FILE", type=Path, nargs="?", help="a trust bundle; checked as any")
    _add_json(trust)
    reset = _add(commands, "reset", "factory reset: destroy identity and keys")
    reset.add_argument("--yes", action="store_true", help="do not ask")
    _add_hooks(reset)
    _add_json(_add(commands, "doctor", "look for what is wrong; exit code 7 if anything is"))
    return parser


def _add_enroll(commands: "argparse._SubParsersAction[_Parser]") -> None:
    enroll = commands.add_parser(
        "enroll",
        help="get the first certificate",
        description=_filled(
            "Make a key on this device and get its first certificate. Run again after any failure, "
            "it goes on with the same key."
        ),
        epilog=_ENROLL_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    way = enroll.add_mutually_exclusive_group(required=True)
    way.add_argument("--serial", metavar="PATH", help="serial port with a station at the other end")
    way.add_argument("--mqtt", metavar="HOST:PORT", help="bootstrap listener of the fleet's broker")
    way.add_argument(
        "--est", metavar="URL", help="EST server, https://HOST:PORT/LABEL; a fleet's label is the domain"
    )
    enroll.add_argument("--device", metavar="ID", help="device id; over serial the station may have its own")
    _add_proofs(enroll)
    enroll.add_argument(
        "--wait", metavar="SECONDS", type=int, default=60, help="how long to try again; default 60"
    )
    enroll.add_argument("--claim", metavar="CERT,KEY", help="claim certificate and its key, PEM files")
    enroll.add_argument(
        "--adopt",
        metavar="CERT,KEY",
        help="move from this certificate of another CA, which the fleet has adopted; --mqtt is then the "
        "broker's operational listener",
    )
    enroll.add_argument("--domain", metavar="D", help="with --adopt: the domain that has adopted it")
    enroll.add_argument(
        "--trust", metavar="PEM", type=Path, help="roots by which servers and stations are trusted"
    )
    enroll.add_argument(
        "--key",
        metavar="PLACE",
        default="",
        help="where keys live: file:[KIND], sealed:[KIND] for encrypted files, tpm:, or a token by its "
        "pkcs11: URI; default where they are, "
        "or file:p256",
    )
    _add_unit(enroll)
    _add_json(enroll)


def _add_run(commands: "argparse._SubParsersAction[_Parser]") -> None:
    run = _add(commands, "run", "stay connected and renew in time; SIGHUP renews now")
    _add_hooks(run)
    share = run.add_mutually_exclusive_group()
    share.add_argument(
        "--share",
        metavar="SOCKET",
        type=Path,
        help="let other programs of this device publish and subscribe, on this socket",
    )
    run.add_argument(
        "--signer", metavar="SOCKET", type=Path, help="sign for other programs of this device, on this socket"
    )
    _add_lend(share)


def _add_recover(commands: "argparse._SubParsersAction[_Parser]") -> None:
    recover = commands.add_parser(
        "recover",
        help="come back by an operator's code, its hardware or a station: same device id, new key",
        description=_filled(
            "Get a new certificate for the identity that this device has had, where its own way back "
            "is closed: expired for long, its key lost, or revoked and readmitted. What it holds goes on "
            "until the new certificate is confirmed, or where the code is refused."
        ),
        epilog=_RECOVER_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    way = recover.add_mutually_exclusive_group()
    way.add_argument(
        "--code-file",
        metavar="FILE",
        default="-",
        help="one-time code, typed or as its QR code reads; - is standard input, or a prompt on a terminal, "
        "and the default",
    )
    way.add_argument("--serial", metavar="PATH", help="serial port with a station at the other end")
    way.add_argument(
        "--hardware",
        action="store_true",
        help="no code: the manufacturer's certificate, TPM or PIV token that it was first let in by",
    )
    recover.add_argument(
        "--https", metavar="HOST:PORT", help="the fleet's HTTPS listener, where it has moved"
    )
    recover.add_argument(
        "--trust", metavar="PEM", type=Path, help="roots of the servers, where they are others now"
    )
    recover.add_argument(
        "--key",
        metavar="PLACE",
        default="",
        help="where new keys are to live, as with enroll, where the old are lost",
    )
    recover.add_argument(
        "--wait", metavar="SECONDS", type=int, default=60, help="how long to try again; default 60"
    )
    _add_unit(recover)
    _add_json(recover)


def _add_proofs(enroll: argparse.ArgumentParser) -> None:
    """Add what says who this device is."""
    enroll.add_argument(
        "--code-file", metavar="FILE", help="one-time code; - is standard input, or a prompt on a terminal"
    )
    enroll.add_argument(
        "--tpm",
        metavar="PLACE",
        nargs="?",
        const="",
        help="keep the key in this TPM, and prove it: device:/dev/tpmrm0 by default",
    )
    enroll.add_argument(
        "--idevid", metavar="CERT,KEY", help="prove who this is by its maker's certificate, PEM files"
    )
    enroll.add_argument(
        "--piv-attestation",
        metavar="DIR",
        type=Path,
        help="prove that the key is in a YubiKey: attestation and f9's certificate, PEM files in a folder",
    )


def _add_unit(enroll: argparse.ArgumentParser) -> None:
    """Add what a station is told of this unit."""
    enroll.add_argument(
        "--hardware-id", metavar="ID", default="", help="how stations know this unit; default its machine id"
    )
    enroll.add_argument("--model", metavar="NAME", default="device-agent", help="model, told to stations")
    enroll.add_argument("--baud", metavar="N", type=int, default=115200, help="speed of the serial port")


def _add(commands: "argparse._SubParsersAction[_Parser]", name: str, text: str) -> _Parser:
    return commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")


def _add_hooks(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--hooks",
        metavar="DIR",
        type=Path,
        help="what is run after each change of the identity; default post-renew.d in the state folder",
    )


def _add_lend(command: argparse._ActionsContainer) -> None:
    command.add_argument(
        "--lend",
        action="store_true",
        help="leave the MQTT connection to another program of this device; ask over HTTPS alone",
    )


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON")

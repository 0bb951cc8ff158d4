"""The command line of `device-agent`, and the files that it names. The reference page is made from it."""

import argparse
import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Never

from device_agent import __version__
from device_agent.errors import BadInputError, ExitCode, UsageError
from device_agent.terminal import can_ask
from device_agent.wire.code_text import LONGEST_TEXT, WrittenCode
from device_agent.wire.identity import Identity, parse_domain
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.replies import HttpsAddress
from device_agent.wire.secret import Secret
from device_agent.wire.trust import TrustBundle

if TYPE_CHECKING:
    from device_agent.enrollment import EstEnrollment, MqttEnrollment
    from device_agent.recovering import Recovery

DEFAULT_STATE = "/var/lib/device-agent"

_LONGEST_TRUST = 256 * 1024
_EXIT_CODES = """exit codes:
  0 done, 1 failed, 2 usage, 3 refused, 4 no certificate yet, 5 cannot reach, 6 bad input,
  7 needs attention"""
_ENROLL_EXAMPLES = """examples:
  device-agent enroll --mqtt fleet.example:8884 --device line3-0042 --code-file code.txt \\
      --claim public-claim.crt,public-claim.key --trust server.pem
  device-agent enroll --est https://fleet.example:8443/prod --device line3-0042 --code-file code.txt \\
      --trust server.pem
  device-agent enroll --serial /dev/ttyUSB0"""

_RECOVER_EXAMPLES = """examples:
  device-agent recover                          asks for the code, or takes it from a pipe or a scanner
  device-agent recover --serial /dev/ttyUSB0    a station has the code"""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors look as all of ours do."""

    def error(self, message: str) -> Never:
        print(f"error: {message}\nhint: {self.prog} --help", file=sys.stderr)
        raise SystemExit(ExitCode.USAGE)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = _Parser(
        prog="device-agent",
        description="Keeps this device's identity: makes the key, enrolls, renews the certificate in time.",
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
    _add_json(_add(commands, "doctor", "look for what is wrong; exit code 7 if anything is"))
    return parser


def enrollment(options: argparse.Namespace) -> "MqttEnrollment":
    """Return what `enroll --mqtt` was told.

    Raises:
        UsageError, BadInputError: an option is missing, or names what cannot be read.
    """
    from device_agent.enrollment import ClaimFiles, MqttEnrollment  # noqa: PLC0415 - the other commands start faster

    opens = "claim" if options.adopt is None else "domain"
    for name in ("device", opens, "trust"):
        if getattr(options, name) is None:
            raise UsageError(f"enroll --mqtt needs --{name}", hint="device-agent enroll --help")
    if options.adopt is not None and (options.claim, options.code_file) != (None, None):
        raise UsageError("--adopt is a proof by itself", hint="leave --claim and --code-file out")
    host, port = _address(options.mqtt, "--mqtt")
    claim = ClaimFiles(**_pair(options.adopt or options.claim, "--claim" if options.claim else "--adopt"))
    if options.idevid is not None and (options.tpm is not None or options.code_file is not None):
        raise UsageError("--idevid is a proof by itself", hint="leave --tpm and --code-file out")
    if options.piv_attestation is not None and (options.tpm, options.idevid, options.adopt) != (None,) * 3:
        raise UsageError("--piv-attestation is a proof by itself", hint="a code may stand beside it")
    return MqttEnrollment(
        host=host,
        port=port,
        device_id=options.device,
        trust_pem=read_trust(options.trust),
        claim=claim,
        code=None if options.code_file is None else read_code(options.code_file, of=options.device),
        idevid=None if options.idevid is None else ClaimFiles(**_pair(options.idevid, "--idevid")),
        piv=options.piv_attestation,
        domain="" if options.adopt is None else _domain(options.domain),
        has_tpm=options.tpm is not None,
    )


def est_enrollment(options: argparse.Namespace) -> "EstEnrollment":
    """Return what `enroll --est` was told.

    Raises:
        UsageError, BadInputError: an option is missing, or names what cannot be read.
    """
    from device_agent.enrollment import ClaimFiles, EstEnrollment  # noqa: PLC0415 - the other commands start faster

    for name in ("device", "trust"):
        if getattr(options, name) is None:
            raise UsageError(f"enroll --est needs --{name}", hint="device-agent enroll --help")
    if options.adopt is not None or options.tpm is not None:
        raise UsageError("EST knows neither --adopt nor --tpm", hint="enroll over --mqtt")
    if options.piv_attestation is not None:
        raise UsageError("EST knows no --piv-attestation", hint="enroll over --mqtt")
    if options.claim is not None and options.idevid is not None:
        raise UsageError("TLS shows one certificate", hint="leave --claim or --idevid out")
    return EstEnrollment(
        url=options.est,
        device_id=options.device,
        trust_pem=read_trust(options.trust),
        code=None if options.code_file is None else read_code(options.code_file, of=options.device),
        claim=None if options.claim is None else ClaimFiles(**_pair(options.claim, "--claim")),
        idevid=None if options.idevid is None else ClaimFiles(**_pair(options.idevid, "--idevid")),
    )


def key_place(options: argparse.Namespace) -> str:
    """Return where keys are to live: what `--tpm` proves, is in it.

    Raises:
        UsageError: `--key` names another place.
    """
    if options.tpm is None:
        return str(options.key)
    if options.key:
        raise UsageError("--tpm keeps the key in the TPM", hint="leave --key out")
    return f"tpm:{options.tpm}"


def read_trust(path: Path) -> str:
    """Return the PEM text of a file of roots; raises `BadInputError`."""
    return _read(path, most=_LONGEST_TRUST)


def read_trust_bundle(path: Path) -> TrustBundle:
    """Return the trust bundle in a file; raises `BadInputError`."""
    try:
        return TrustBundle.parse(_read(path, most=_LONGEST_TRUST).encode())
    except MalformedMessageError as error:
        raise BadInputError(
            f"{path} holds no trust bundle: {error}", hint="fleet ca rollover bundle writes one"
        ) from error


def read_code(name: str, *, of: Identity | str) -> Secret:
    """Return the one-time code in a file; `-` is standard input, or a prompt where that is a terminal.

    `of` is the device, or its id where its domain is not known: a scanned code says whose it is.

    Raises:
        BadInputError: there is no code in it, or another device's.
    """
    if name != "-":
        text = _read(Path(name), most=4 * LONGEST_TEXT)
    elif can_ask():
        text = getpass.getpass("code: ")
    else:
        text = sys.stdin.readline(4 * LONGEST_TEXT) if sys.stdin is not None else ""
    try:
        written = WrittenCode.parse(text)
    except MalformedMessageError as error:
        raise BadInputError(
            "the code must be one line of text", hint="fleet claim create prints it"
        ) from error
    if written.identity is not None and of not in (written.identity, written.identity.device_id):
        device = of.name if isinstance(of, Identity) else of
        raise BadInputError(
            f"the code is for {written.identity.name}, and this device is {device}",
            hint="fleet claim create makes one for it",
        )
    return written.code


def recovery(options: argparse.Namespace, identity: Identity) -> "Recovery":
    """Return what `recover` was told; raises `UsageError`, `BadInputError`."""
    from device_agent.recovering import Recovery  # noqa: PLC0415 - the other commands start faster

    address = None if options.https is None else _address(options.https, "--https")
    return Recovery(
        code=read_code(options.code_file, of=identity),
        https=None if address is None else HttpsAddress(host=address[0], port=address[1]),
        trust_pem="" if options.trust is None else read_trust(options.trust),
    )


def _add_enroll(commands: "argparse._SubParsersAction[_Parser]") -> None:
    enroll = commands.add_parser(
        "enroll",
        help="get the first certificate",
        description="Make a key on this device and get its first certificate. Run again after any failure, "
        "it goes on with the same key.",
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
    run.add_argument(
        "--hooks",
        metavar="DIR",
        type=Path,
        help="what is run after each change of the identity; default post-renew.d in the state folder",
    )
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
        help="come back by an operator's code, or a station: same device id, new key",
        description="Get a new certificate for the identity that this device has had, where its own way back "
        "is closed: expired for long, its key lost, or revoked and readmitted. What it holds goes on until "
        "the new certificate is confirmed, or where the code is refused.",
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


def _add_lend(command: argparse._ActionsContainer) -> None:
    command.add_argument(
        "--lend",
        action="store_true",
        help="leave the MQTT connection to another program of this device; ask over HTTPS alone",
    )


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON")


def _pair(text: str, option: str) -> dict[str, Path]:
    certificate, _, key = text.partition(",")
    name = option.removeprefix("--")
    if not key:
        raise UsageError(f"{option} takes two files", hint=f"{option} {name}.crt,{name}.key")
    return {"certificate": Path(certificate), "key": Path(key)}


def _domain(text: str) -> str:
    try:
        return parse_domain(text)
    except MalformedMessageError as error:
        raise BadInputError(f"domain: {error}", hint="--domain prod") from error


def _address(text: str, option: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        default = {"--mqtt": 8884, "--https": 8443}[option]
        raise UsageError(f"{option} takes HOST:PORT", hint=f"{option} fleet.example:{default}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _read(path: Path, *, most: int) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise BadInputError(f"cannot read {path}: {reason}", hint="name a file that is there") from error
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path} is not text", hint="a PEM or text file is wanted") from error
    if len(content) > most:
        raise BadInputError(f"{path} is larger than {most} bytes", hint="is it the right file")
    return text

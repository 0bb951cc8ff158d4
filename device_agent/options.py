"""What the options of a command name: files, addresses, proofs. Read once, and refused where it is not so."""

import argparse
import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from device_agent.errors import BadInputError, UsageError
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

_LONGEST_TRUST = 256 * 1024


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
        code=None if options.hardware else read_code(options.code_file, of=identity),
        https=None if address is None else HttpsAddress(host=address[0], port=address[1]),
        trust_pem="" if options.trust is None else read_trust(options.trust),
    )


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
    if not host or "/" in host or not port.isdecimal() or not 1 <= int(port) <= 65535:
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

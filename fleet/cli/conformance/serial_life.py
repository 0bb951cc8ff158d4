"""What a device does with its key and its certificate on the factory link, from IDENT to the visit after.

The order is that of a station; before each right step, the device is asked for wrong ones.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from hashlib import sha256
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from device_agent.wire.factory import NONCE_BYTES, LinkState, Rc
from device_agent.wire.factory_replies import (
    CommitReply,
    HelloReply,
    IdentReply,
    InstallReply,
    ProveReply,
    StatusReply,
)
from device_agent.wire.factory_requests import Commit, Ident, Prove, Read, Status, Write
from device_agent.wire.objects import MAX_CSR_BYTES, ObjectId, ReadableId
from fleet.cli.conformance.check import Absent, Check, Failure
from fleet.cli.conformance.device import Device
from fleet.core.csr import read_csr
from fleet.errors import RefusedError

Act: TypeAlias = Callable[[Device], Awaitable[None]]

_PAGE = "serial-protocol.md"
_NONCE = bytes(range(NONCE_BYTES))
_OTHER_NONCE = bytes(range(NONCE_BYTES, 2 * NONCE_BYTES))
_GREETINGS = 10
"""To a device that should come back: two seconds each where nobody answers."""


async def _early(device: Device) -> None:
    """A device without a key has nothing to read, to write to, to prove or to commit."""
    await device.begin()
    if device.hello.state is not LinkState.FRESH:
        raise Absent("it has a key already: only a fresh device can show this")
    for request in (
        Read(object_id=ReadableId.CSR, offset=0, length=16),
        Prove(nonce=_NONCE),
        Commit(fingerprint=bytes(32)),
    ):
        await device.refused(request, rcs=(Rc.STATE,), what=f"{request.command.name} without a key")


async def _ident(device: Device) -> None:
    await device.begin()
    device.csr = await _request(device)
    try:
        read = read_csr(device.csr)
    except RefusedError as error:
        raise Failure(f"its request is not right: {error}") from error
    if not isinstance(read.public_key, ec.EllipticCurvePublicKey):
        raise Failure("its key is on no curve: PROVE signs with ECDSA")
    if any(name != device.wanted_id for name in read.common_names):
        raise Failure(f"its request names {read.common_names[0]}, and was asked for {device.wanted_id}")


async def _request(device: Device) -> bytes:
    ident = await device.link.ask(device.talk, Ident(device_id=device.wanted_id))
    if not isinstance(ident, IdentReply) or ident.length > MAX_CSR_BYTES:
        raise Failure(f"IDENT tells a request of more than {MAX_CSR_BYTES} octets")
    octets = await device.read_csr(ident.length)
    if sha256(octets).digest() != ident.digest:
        raise Failure("h of IDENT is not the SHA-256 of what READ gives")
    return octets


async def _same_key(device: Device) -> None:
    await device.begin()
    again = await _request(device)
    if again != device.csr:
        same = _key(again) == _key(device.csr)
        raise Failure(
            "the same key is in another request" if same else "IDENT for the same id makes another key"
        )


def _key(csr: bytes) -> object:
    return x509.load_der_x509_csr(csr).public_key()


async def _read_behind(device: Device) -> None:
    request = Read(object_id=ReadableId.CSR, offset=len(device.csr) + 1, length=16)
    await device.refused(request, rcs=(Rc.OFFSET,), what="READ behind the end")


async def _gap(device: Device) -> None:
    piece = Write(object_id=ObjectId.CHAIN, offset=64, octets=b"x")
    await device.refused(piece, rcs=(Rc.OFFSET,), what="WRITE that leaves a gap")


async def _rewrite(device: Device) -> None:
    """A piece that begins inside of what is there cuts off the rest."""
    device.issue()
    await device.write_object(ObjectId.CHAIN, b"\0" * 300)
    reply = await device.link.ask(device.talk, Write(object_id=ObjectId.CHAIN, offset=96, octets=b"y" * 10))
    if getattr(reply, "offset", None) != 106:
        raise Failure("WRITE inside of what is there must cut off the rest and tell 106 as off")


async def _hash(device: Device) -> None:
    await device.write(device.package)
    wrong = replace(device.package.hashes, anchors=bytes(32))
    await device.refused(
        device.install(device.package, hashes=wrong), rcs=(Rc.HASH,), what="INSTALL with a wrong hash"
    )


async def _signature(device: Device) -> None:
    await device.write(device.package)
    order = device.install(device.package, signer=device.workshop.devices)
    await device.refused(order, rcs=(Rc.UNAUTHORISED,), what="INSTALL with another's signature")


async def _stranger(device: Device) -> None:
    """A station whose chain ends at no anchor that came or was there."""
    await device.write(device.package)
    await device.write_signer(device.workshop.stranger, device.workshop.strangers)
    order = device.install(device.package, signer=device.workshop.stranger)
    await device.refused(order, rcs=(Rc.UNAUTHORISED,), what="INSTALL by a station of another fleet")


async def _other_unit(device: Device) -> None:
    leaf = x509.load_der_x509_certificate(device.package.leaf)
    package = device.package_for(leaf, hardware_id="another-unit")
    await device.write(package)
    await device.refused(
        device.install(package), rcs=(Rc.UNAUTHORISED,), what="a configuration for another unit"
    )


async def _other_key(device: Device) -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    package = device.package_for(device.workshop.device(device.wanted_id, key))
    await device.write(package)
    await device.refused(
        device.install(package), rcs=(Rc.KEY_MISMATCH,), what="a certificate for another key"
    )


async def _other_name(device: Device) -> None:
    leaf = device.workshop.device("somebody-else", x509.load_der_x509_csr(device.csr).public_key())
    package = device.package_for(leaf)
    await device.write(package)
    await device.refused(
        device.install(package), rcs=(Rc.UNAUTHORISED, Rc.STATE), what="a certificate for another name"
    )


async def _other_root(device: Device) -> None:
    key = x509.load_der_x509_csr(device.csr).public_key()
    package = device.package_for(
        device.workshop.device(device.wanted_id, key, issuer=device.workshop.strangers)
    )
    await device.write(package)
    await device.refused(
        device.install(package), rcs=(Rc.UNAUTHORISED, Rc.STATE), what="a certificate that leads to no anchor"
    )


async def _nothing_installed(device: Device) -> None:
    reply = await device.link.ask(device.talk, Status())
    if not isinstance(reply, StatusReply) or reply.state is not LinkState.KEYED:
        raise Failure("after refused INSTALLs its state is not KEYED")


async def _install(device: Device) -> None:
    await device.write(device.package)
    reply = await device.link.ask(device.talk, device.install(device.package))
    if not isinstance(reply, InstallReply) or reply.fingerprint != device.package.fingerprint:
        raise Failure("fp of INSTALL is not the SHA-256 of the leaf")


async def _prove(device: Device) -> None:
    for nonce in (_NONCE, _OTHER_NONCE):
        reply = await device.link.ask(device.talk, Prove(nonce=nonce))
        if not isinstance(reply, ProveReply) or not device.is_proof(reply.signature, nonce=nonce):
            raise Failure("the signature of PROVE is not over the text, or not by the certified key")


async def _commit_other(device: Device) -> None:
    await device.refused(Commit(fingerprint=bytes(32)), rcs=(Rc.STATE,), what="COMMIT of another certificate")
    reply = await device.link.ask(device.talk, Status())
    if not isinstance(reply, StatusReply) or reply.state is not LinkState.PENDING:
        raise Failure("after it its state is not PENDING")


async def _resumed(device: Device) -> None:
    """The cable was pulled after INSTALL: a new session finds the device pending, and it proves again."""
    hello = await device.begin()
    if (hello.state, hello.fingerprint) != (LinkState.PENDING, device.package.fingerprint):
        raise Failure("in a new session HELLO does not tell PENDING and the fingerprint")
    await _prove(device)


async def _commit(device: Device) -> None:
    for _ in range(2):
        reply = await device.link.ask(device.talk, Commit(fingerprint=device.package.fingerprint))
        if not isinstance(reply, CommitReply) or reply.state is not LinkState.ACTIVE:
            raise Failure("COMMIT does not lead to ACTIVE")
        if reply.fingerprint != device.package.fingerprint:
            raise Failure("fp of COMMIT is not the SHA-256 of the leaf")
    await device.link.ask(device.talk, Status())


async def _back(device: Device) -> HelloReply:
    """Greet a device that may have ended with its enrollment, and has to be started or plugged in by hand."""
    for _ in range(_GREETINGS - 1):
        try:
            return await device.begin()
        except Failure:
            continue
    return await device.begin()


async def _again(device: Device) -> None:
    """The unit is plugged in again: it holds what it was given, and proves it."""
    hello = await _back(device)
    if hello.state is not LinkState.ACTIVE or hello.fingerprint != device.package.fingerprint:
        raise Failure("HELLO does not tell ACTIVE and the fingerprint of its leaf")
    await _prove(device)
    await _commit(device)


_ROWS: tuple[tuple[str, Act, str, str, str, str], ...] = (
    (
        "early",
        _early,
        "hello",
        "refuses what needs a key before it has one",
        "The device",
        "refuse with rc 2 what the table of states does not have",
    ),
    (
        "ident",
        _ident,
        "hello",
        "makes a key and a right request",
        "Messages, Objects",
        "PKCS#10 in DER, signed with its own key, common name empty or the id; h is its SHA-256",
    ),
    (
        "same-key",
        _same_key,
        "ident",
        "keeps key and request for the same id",
        "The device",
        "keep both in flash: a station knows a request by its hash",
    ),
    (
        "read-end",
        _read_behind,
        "ident",
        "refuses to read behind the end",
        "Messages",
        "answer rc 1 (offset)",
    ),
    (
        "gap",
        _gap,
        "ident",
        "refuses to write behind a gap",
        "Messages",
        "answer rc 1 (offset)",
    ),
    (
        "rewrite",
        _rewrite,
        "ident",
        "takes a piece that begins anew inside of an object",
        "Messages",
        "cut the object at off, append d, and answer with its new length",
    ),
    (
        "wrong-hash",
        _hash,
        "rewrite",
        "refuses objects with another hash",
        "The device",
        "compare h1, h2 and h3 before anything else, and answer rc 3",
    ),
    (
        "wrong-signature",
        _signature,
        "rewrite",
        "refuses an order that the station did not sign",
        "What is signed",
        'verify sg over "FFL1 station" 00 s nonce h1 h2 h3 by the key of sc, and answer rc 6',
    ),
    (
        "other-station",
        _stranger,
        "rewrite",
        "obeys no station of another fleet",
        "The device",
        "follow sc to an anchor of yours, or of the servers in the configuration where you have none",
    ),
    (
        "other-unit",
        _other_unit,
        "rewrite",
        "refuses what was made for another unit",
        "The device",
        "compare hw and id of the configuration with your own, and answer rc 6",
    ),
    (
        "other-key",
        _other_key,
        "rewrite",
        "refuses a certificate for another key",
        "The device",
        "compare its public key with your own, and answer rc 4",
    ),
    (
        "other-name",
        _other_name,
        "rewrite",
        "refuses a certificate for another name",
        "The device",
        "its common name must be the id, exactly",
    ),
    (
        "other-root",
        _other_root,
        "rewrite",
        "refuses a certificate that leads to no anchor",
        "The device",
        "build the path from the leaf to one of the anchors that came with it",
    ),
    (
        "refused-whole",
        _nothing_installed,
        "rewrite",
        "keeps its state when it refuses",
        "The device",
        "put nothing into a slot before all of it was checked",
    ),
    (
        "install",
        _install,
        "rewrite",
        "installs what is right",
        "The device",
        "answer with the SHA-256 of the leaf as fp; state PENDING",
    ),
    (
        "prove",
        _prove,
        "install",
        "proves its key, bound to session, nonces and objects",
        "What is signed",
        'sign "FFL1 proof" 00 s station nonce device nonce h1 h2 h3 fp, ECDSA with SHA-256 in DER',
    ),
    (
        "commit-other",
        _commit_other,
        "install",
        "commits no other certificate than the installed one",
        "The device",
        "compare fp with the pending leaf's, and answer rc 2",
    ),
    (
        "resume",
        _resumed,
        "prove",
        "goes on in a new session where it was cut off",
        "The device",
        "PENDING survives a power cut: keep key, objects and their hashes",
    ),
    (
        "commit",
        _commit,
        "prove",
        "becomes active, and says the same when it is asked again",
        "The device",
        "COMMIT is idempotent: ACTIVE and the same fp each time",
    ),
    (
        "plugged-again",
        _again,
        "commit",
        "is recognised when it is plugged in again",
        "The station",
        "ACTIVE, PROVE and COMMIT work with the active slot",
    ),
)
"""Name, act, what must have passed, title, section of the page, advice."""

LIFE: tuple[Check[Device], ...] = tuple(
    Check(name=name, title=title, rule=f"{_PAGE}: {section}", advice=advice, act=act, after=(after,))
    for name, act, after, title, section, advice in _ROWS
)

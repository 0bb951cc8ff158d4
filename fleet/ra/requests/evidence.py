"""What a request shows of itself, verified before admission: challenges, certificates, TPMs, PIV tokens.

All that costs time is done here, outside the unit of work. A challenge counts once: of two answers to it at
the same time, one is heard.
"""

from dataclasses import dataclass, replace

from device_agent.wire.evidence import IdevidEvidence, PivEvidence, TpmEvidence, TpmIdentity
from device_agent.wire.messages import Reply
from device_agent.wire.problems import ProblemCode
from device_agent.wire.replies import Challenge
from device_agent.wire.requests import CHALLENGED, Attest, Enroll, ProofKind
from device_agent.wire.secret import Secret
from fleet.attest import tpm
from fleet.attest.chains import read_one
from fleet.attest.idevid import IdevidVerifier, TlsIdevidVerifier
from fleet.attest.piv import PivVerifier
from fleet.attest.proof import Proven, Statement
from fleet.attest.tpm import TpmVerifier, read_tpm
from fleet.core.csr import Csr
from fleet.core.things import Thing, ThingKind, certificate_thing
from fleet.errors import RefusedError
from fleet.model import Purpose
from fleet.ports import Transaction
from fleet.ra.context import Asker, Context, Listener
from fleet.ra.nonces import LIFETIME
from fleet.ra.requests.applicants import (
    NOTHING_SAID,
    AdmissionProof,
    ClaimProof,
    CodeProof,
    HardwareProof,
    ListedKeyProof,
    StationProof,
    StationWord,
    require_certificate,
)
from fleet.ra.shown import ShownCertificate
from fleet.store import listed
from fleet.store.codes import GrantKind, code_hash


async def challenge(context: Context, asker: Asker, request: Attest) -> Reply:
    """Answer an `attest`: what the proof has to answer, and for a TPM a secret that it alone can open.

    Raises:
        RefusedError: the kind needs no challenge, or the TPM is none that could prove anything.
    """
    if request.proof not in CHALLENGED:
        raise RefusedError(f"a proof of kind {request.proof} needs no challenge")
    if asker.listener is Listener.BOOTSTRAP and asker.client_id != request.key_hash:
        raise RefusedError("the MQTT client id must be the SHA-256 of the key to be certified")
    now = context.clock()
    if not context.by_device.allow(f"attest {asker.client_id or asker.address}", now=now):
        raise RefusedError("too many challenges were asked for", code=ProblemCode.RATE_LIMITED)
    domain = await _domain_of(context, asker)
    nonce = context.nonces.issue(now=now, randomness=context.randomness(8))
    asked = Challenge(
        id=request.id,
        nonce=nonce,
        fleet=context.fleet,
        domain=domain,
        expires_in_seconds=int(LIFETIME.total_seconds()),
    )
    return asked if request.tpm is None else await _for_tpm(context, asked, request, request.tpm)


async def _for_tpm(context: Context, asked: Challenge, request: Attest, shown: TpmIdentity) -> Challenge:
    """Add a secret to a challenge that this TPM alone opens; raises `RefusedError`."""
    found = read_tpm(shown)
    statement = _statement(context, asked.domain, request.device_id, request.key_hash)
    is_listed = await _is_listed(context, asked.domain, found.things)
    tpm.require_known(found, context.makers.tpms(asked.domain), statement, is_listed=is_listed)
    secret = _secret(context, found, nonce=asked.nonce, key_hash=request.key_hash)
    wrapped = tpm.challenge(found, secret, randomness=context.randomness)
    return replace(asked, credential=wrapped.blob, secret=wrapped.secret)


async def proof_of(
    context: Context, asker: Asker, request: Enroll, csr: Csr, *, word: StationWord = NOTHING_SAID
) -> AdmissionProof:
    """Return what admission judges.

    Raises:
        RefusedError: the channel does not carry such a proof, or the evidence proves nothing.
    """
    kind, code = request.proof.kind, request.proof.code
    match kind:
        case ProofKind.CODE if code is not None:
            return CodeProof(code_hash=code_hash(code))
        case ProofKind.CLAIM:
            return ClaimProof(shown=await _claim_of(context, asker))
        case ProofKind.MANIFEST:
            return ListedKeyProof(domain=await _domain_of(context, asker))
        case ProofKind.IDEVID | ProofKind.TPM | ProofKind.PIV:
            return await _hardware(context, asker, request, csr)
        case ProofKind.STATION if asker.station:
            return StationProof(name=asker.station, word=word, code_hash=_hash_of(code))
        case ProofKind.STATION if asker.listener is Listener.HTTPS and asker.certificate is not None:
            return StationProof(shown=asker.certificate, word=word, code_hash=_hash_of(code))
        case _:
            raise RefusedError(f"a proof of kind {kind} is not accepted here")


def _hash_of(code: Secret | None) -> str:
    return "" if code is None else code_hash(code)


async def _hardware(context: Context, asker: Asker, request: Enroll, csr: Csr) -> HardwareProof:
    domain = await _domain_of(context, asker)
    statement = _statement(context, domain, request.device_id, csr.key_hash)
    code = request.proof.code
    return HardwareProof(
        kind=GrantKind(request.proof.kind.value),
        domain=domain,
        proven=await _proven(context, asker, request, statement),
        code_hash="" if code is None else code_hash(code),
    )


async def _proven(context: Context, asker: Asker, request: Enroll, statement: Statement) -> Proven:
    makers = context.makers.idevids(statement.domain)
    match request.proof.evidence:
        case IdevidEvidence() as evidence:
            thing = certificate_thing(read_one(evidence.certificate))
            is_listed = await _is_listed(context, statement.domain, (thing,))
            idevid = IdevidVerifier(evidence=evidence, makers=makers, is_listed=is_listed)
            proven = idevid.verify(statement)
            _redeem(context, evidence.nonce)
            return proven
        case TpmEvidence() as evidence:
            found = read_tpm(evidence.tpm)
            verifier = TpmVerifier(
                evidence=evidence,
                anchors=context.makers.tpms(statement.domain),
                secret=_secret(context, found, nonce=evidence.nonce, key_hash=statement.key_hash),
                is_listed=await _is_listed(context, statement.domain, found.things),
            )
            proven = verifier.verify(statement)
            _redeem(context, evidence.nonce)
            return proven
        case PivEvidence() as evidence:
            attested = PivVerifier(evidence=evidence, makers=context.makers.pivs(statement.domain))
            return attested.verify(statement)
        case None if asker.maker_certificate and request.proof.kind is ProofKind.IDEVID:
            shown = TlsIdevidVerifier(certificate=asker.maker_certificate, makers=makers)
            return shown.verify(statement)
        case None:
            raise RefusedError(
                f"the proof of kind {request.proof.kind} brings no evidence",
                hint="ask for a challenge first: attest" if request.proof.kind in CHALLENGED else None,
            )


def _statement(context: Context, domain: str, device_id: str, key_hash: str) -> Statement:
    return Statement(
        fleet=context.fleet, domain=domain, device_id=device_id, key_hash=key_hash, at=context.clock()
    )


def _redeem(context: Context, nonce: str) -> None:
    """Take the nonce of evidence that was found right; nothing is awaited in between."""
    if not context.nonces.redeem(nonce, now=context.clock()):
        raise RefusedError(
            "the challenge was answered already, is too old, or is not ours: ask for another",
            code=ProblemCode.NOT_CURRENT,
        )


def _secret(context: Context, found: tpm.Tpm, *, nonce: str, key_hash: str) -> bytes:
    """Return the secret of a challenge: known to us, and to the one TPM that can open it beside its key."""
    about = b"\0".join((found.ek.area, found.ak.name, key_hash.encode()))
    return context.nonces.secret(nonce, about)


async def is_listed_key(context: Context, domain: str, key_hash: str) -> bool:
    """Tell whether a manufacturer's list has a key: whoever signs a request by it is heard without a word."""
    thing = Thing(kind=ThingKind.KEY, value=key_hash)
    return await _is_listed(context, domain, (thing,))


async def _is_listed(context: Context, domain: str, things: tuple[Thing, ...]) -> bool:
    return bool(await context.store.read(_owners, _Things(domain=domain, things=things)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Things:
    domain: str
    things: tuple[Thing, ...]


async def _owners(tx: Transaction, wanted: _Things) -> dict[Thing, str]:
    return await listed.owners(tx, wanted.domain, wanted.things)


async def _domain_of(context: Context, asker: Asker) -> str:
    """Return the domain that the channel speaks for: its address names it, or the claim certificate does."""
    if asker.domain:
        return asker.domain
    return await context.store.read(_claimed_domain, await _claim_of(context, asker))


async def _claimed_domain(tx: Transaction, shown: ShownCertificate) -> str:
    return (await require_certificate(tx, shown, purpose=Purpose.CLAIM)).domain


async def _claim_of(context: Context, asker: Asker) -> ShownCertificate:
    """Return the certificate of the connection, which on the bootstrap listener the broker must tell."""
    if asker.certificate is not None:
        return asker.certificate
    if asker.listener is Listener.BOOTSTRAP:
        if (shown := context.presence.find(asker.client_id)) is not None:
            return shown
        for session in await context.broker.sessions():
            context.presence.note(session)
        if (shown := context.presence.find(asker.client_id)) is not None:
            return shown
    raise RefusedError("there is no claim certificate behind this request")

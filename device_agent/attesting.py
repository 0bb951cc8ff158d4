"""Makes the evidence of an `enroll` whose proof has to be fresh: asks for a challenge, and has it answered.

Who answers is an attestor: a TPM, or the key of a manufacturer's certificate. It may be slow; others go on.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from device_agent.core.record import Pending
from device_agent.core.stored import StoredRecord
from device_agent.errors import BadInputError, NotEnrolledError
from device_agent.ports import Asker, Attestor
from device_agent.wire.replies import Challenge, Reply
from device_agent.wire.requests import Attest, Enroll, ProofKind


async def ask_with_evidence(
    asker: Asker, request: Enroll, attestor: Attestor, *, pending: Pending, new_id: Callable[[], str]
) -> Reply:
    """Ask for a challenge, answer it, and ask for the certificate; return the last reply.

    Raises:
        ChannelError: no reply. KeyStoreError: the TPM or the key cannot be used.
    """
    asked = Attest(
        id=new_id(),
        device_id=request.device_id,
        key_hash=pending.key_hash,
        proof=request.proof.kind,
        tpm=await asyncio.to_thread(attestor.identity),
    )
    reply = await asker.ask(asked)
    if not isinstance(reply, Challenge):
        return reply
    evidence = await asyncio.to_thread(
        attestor.answer,
        reply,
        device_id=request.device_id,
        key=pending.key,
        key_hash=pending.key_hash,
    )
    return await asker.ask(replace(request, proof=replace(request.proof, evidence=evidence)))


def with_attestation(request: Enroll, record: StoredRecord, *, key_der: bytes) -> Enroll:
    """Return a request with what the PIV token has said of its key, a SubjectPublicKeyInfo.

    Raises:
        KeyStoreError: it has said nothing of it, as far as its folder goes.
    """
    from device_agent.keys.piv_attestation import read_attestation  # noqa: PLC0415 - few devices have one

    folder = "" if record.bootstrap is None else record.bootstrap.piv_attestation
    evidence = read_attestation(Path(folder), key_der)
    return replace(request, proof=replace(request.proof, evidence=evidence))


def attestor_of(state: Path, record: StoredRecord) -> Attestor:
    """Return who proves what this device is, as it was told when it enrolled.

    Raises:
        BadInputError: the device has no such thing. NotEnrolledError: nothing was told.
    """
    kind = None if record.life.proof is None else record.life.proof.kind
    if kind is ProofKind.TPM:
        from device_agent.keys.place import open_tpm  # noqa: PLC0415 - most devices never need it

        return open_tpm(state)
    if kind is ProofKind.IDEVID and record.bootstrap is not None and record.bootstrap.idevid_key:
        from device_agent.keys.idevid import IdevidAttestor  # noqa: PLC0415 - as above

        return IdevidAttestor(
            certificate=Path(record.bootstrap.idevid_certificate), key=Path(record.bootstrap.idevid_key)
        )
    if kind is None:
        raise NotEnrolledError("there is nothing to enroll by", hint="device-agent enroll")
    raise BadInputError("this device has nothing that could prove it", hint="device-agent enroll --help")

"""Who gets a first certificate: one key for each code, or for any other grant.

A rule never issues: it answers `Issue`, and the certificate lives once its signature is on record.
The same question always gets the same answer, so that a lost answer can be asked for again.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias

from device_agent.wire.problems import ProblemCode
from fleet.core.events import Decision, Enroll, Issue, Nothing, Notice, Replay, frozen, refuse
from fleet.core.lineage import of_key, standing
from fleet.model import Certificate, CertificateState, Code, Device


def enroll(device: Device, request: Enroll) -> Decision:
    """Judge a request for a first certificate."""
    if device.revoked:
        return refuse(device, ProblemCode.REVOKED, "the device is revoked")
    code = next((found for found in device.codes if found.code_id == request.code_id), None)
    if code is None:
        return refuse(device, ProblemCode.CODE_INVALID, "the code is not open")
    if any(one.state is CertificateState.REVOKED for one in of_key(device, request.key_hash)):
        return refuse(device, ProblemCode.BAD_KEY, "the key was revoked")
    if code.key_hash is None:
        return _bind(device, request)
    if code.key_hash != request.key_hash:
        return _conflict(device)
    before = standing(one for one in of_key(device, code.key_hash) if one.code_id == code.code_id)
    return _issue(device, request) if before is None else AGAIN[before.state](device, request, before)


_HAD_ITS_LIFE = frozenset(
    {
        CertificateState.ACTIVE,
        CertificateState.EXPIRED_GRACE,
        CertificateState.EXPIRED_FINAL,
        CertificateState.SUPERSEDED,
        CertificateState.SUPERSEDED_ACKED,
    }
)
"""A certificate that was in use: its key may be what was lost."""


def _bind(device: Device, request: Enroll) -> Decision:
    if device.alarm:
        return frozen(device)
    if any(one.state in _HAD_ITS_LIFE for one in of_key(device, request.key_hash)):
        return refuse(device, ProblemCode.KEY_IN_USE, "a code admits a new key, and this one had its life")
    bound = Code(code_id=request.code_id, key_hash=request.key_hash)
    codes = tuple(bound if found.code_id == bound.code_id else found for found in device.codes)
    return _issue(replace(device, codes=codes), request)


def _conflict(device: Device) -> Decision:
    # The thief of a code may come before its owner: no machine can tell which of two keys is right.
    notice = None if device.code_conflict else Notice.CODE_CONFLICT
    verdict = Nothing(code=ProblemCode.CODE_CONFLICT, reason="the code is bound to another key")
    return Decision(device=replace(device, code_conflict=True), verdict=verdict, notice=notice)


def _issue(device: Device, request: Enroll) -> Decision:
    if device.alarm:
        return frozen(device)
    return Decision(device=device, verdict=Issue(key_hash=request.key_hash, code_id=request.code_id))


Rule: TypeAlias = Callable[[Device, Enroll, Certificate], Decision]


def replay(device: Device, _request: Enroll, before: Certificate) -> Decision:
    """Give the same answer."""
    return Decision(device=device, verdict=Replay(serial=before.serial))


def issue_anew(device: Device, request: Enroll, before: Certificate) -> Decision:
    """Issue under a new serial, unless a newer certificate was confirmed or an alarm stands."""
    if device.current is not None and before.serial < device.current:
        return refuse(device, ProblemCode.CODE_INVALID, "a newer certificate has been confirmed")
    return _issue(device, request)


def spent(device: Device, _request: Enroll, _before: Certificate) -> Decision:
    """Refuse: what the code admitted has had its life."""
    return refuse(device, ProblemCode.CODE_INVALID, "the code has been used")


AGAIN: Mapping[CertificateState, Rule] = MappingProxyType(
    {
        CertificateState.VOID: issue_anew,
        CertificateState.ISSUED: replay,
        CertificateState.ACTIVE: replay,
        CertificateState.EXPIRED_UNUSED: issue_anew,
        CertificateState.EXPIRED_GRACE: replay,
        CertificateState.EXPIRED_FINAL: spent,
        CertificateState.SUPERSEDED: spent,
        CertificateState.SUPERSEDED_ACKED: spent,
        CertificateState.DEAD: issue_anew,
        CertificateState.REVOKED: spent,
    }
)
"""The same key comes again: what happens, by the state of the certificate that it has from this code."""

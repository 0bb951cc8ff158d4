"""Every verifier has the one interface, and each proves its own level."""

from datetime import UTC, datetime

import pytest

from device_agent.wire.identity import Identity
from fleet.attest.claim import ClaimVerifier
from fleet.attest.code import CodeVerifier
from fleet.attest.manifest import ManifestVerifier
from fleet.attest.proof import Statement, Verifier
from fleet.attest.witness import WitnessVerifier
from fleet.errors import RefusedError
from fleet.model import Assurance

NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)
STATEMENT = Statement(fleet="acme", domain="prod", device_id="d1", key_hash="ab" * 32, at=NOW)
D1, D2 = Identity(domain="prod", device_id="d1"), Identity(domain="prod", device_id="d2")


def claim(*, domain: str = "prod", uses_allowed: int | None = 2, closed: bool = False) -> ClaimVerifier:
    return ClaimVerifier(
        domain=domain,
        batch="line3",
        uses=0,
        uses_allowed=uses_allowed,
        expires_at=None,
        closed_at=NOW if closed else None,
    )


@pytest.mark.parametrize(
    ("verifier", "level"),
    [
        (claim(), Assurance.CLAIM),
        (CodeVerifier(of=D1, is_bound=False, expires_at=None), Assurance.CODE),
        (CodeVerifier(of=D1, is_bound=True, expires_at=NOW), Assurance.CODE),
        (WitnessVerifier(witness="station line3"), Assurance.APPROVED),
        (ManifestVerifier(owner="d1", source="signer"), Assurance.MANUFACTURER),
    ],
)
def test_each_proof_has_its_level(verifier: Verifier, level: Assurance) -> None:
    assert verifier.verify(STATEMENT).assurance is level


@pytest.mark.parametrize(
    ("verifier", "said"),
    [
        (claim(domain="lab"), "of another domain"),
        (claim(closed=True), "was closed"),
        (claim(uses_allowed=0), "grants nothing without a code"),
        (CodeVerifier(of=D2, is_bound=False, expires_at=None), "not one for this device"),
        (CodeVerifier(of=D1, is_bound=False, expires_at=NOW), "has expired"),
        (ManifestVerifier(owner=None), "no manufacturer's list"),
        (ManifestVerifier(owner="d2"), "for another device"),
    ],
)
def test_what_proves_nothing_says_why(verifier: Verifier, said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        verifier.verify(STATEMENT)

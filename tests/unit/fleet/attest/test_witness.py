"""The word of whoever had a device in hand, and what it is worth."""

from datetime import UTC, datetime

import pytest

from fleet.attest.proof import Statement
from fleet.attest.witness import WitnessVerifier
from fleet.model import Assurance, KeyOrigin

STATEMENT = Statement(
    fleet="acme", domain="prod", device_id="d1", key_hash="0" * 64, at=datetime(2030, 1, 1, tzinfo=UTC)
)


@pytest.mark.parametrize(
    ("key", "assurance"),
    [
        (KeyOrigin.DEVICE, Assurance.APPROVED),
        (KeyOrigin.ATTESTED, Assurance.APPROVED),
        (KeyOrigin.HOST, Assurance.CODE),
    ],
)
def test_a_key_from_outside_of_the_device_is_worth_less(key: KeyOrigin, assurance: Assurance) -> None:
    assert WitnessVerifier(witness="station line3", key=key).verify(STATEMENT).assurance is assurance


def test_where_the_key_was_made_is_on_record() -> None:
    proven = WitnessVerifier(witness="station line3", key=KeyOrigin.HOST).verify(STATEMENT)
    assert proven.evidence == "the word of station line3; its key was made outside of the device"


def test_of_a_key_in_the_device_nothing_is_said() -> None:
    assert WitnessVerifier(witness="station line3").verify(STATEMENT).evidence == "the word of station line3"

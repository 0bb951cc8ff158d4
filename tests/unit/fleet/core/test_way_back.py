"""The ladder of a device that lost its certificate: each rung's rule, and the guide's table of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from fleet.core.way_back import HardwareWay, Rung, hardware_refusal, ladder_table, next_rung, ways_told
from fleet.model import Alarm, CertificateState
from tests.lives import device

GUIDE = Path(__file__).parents[4] / "docs/how-to/recover-a-device.md"
LIVE = {CertificateState.ACTIVE, CertificateState.ISSUED}


@pytest.mark.parametrize("way", HardwareWay)
@pytest.mark.parametrize("state", CertificateState)
def test_hardware_brings_a_device_back_where_the_policy_says_so(
    state: CertificateState, way: HardwareWay
) -> None:
    lost = device(state)
    is_live = any(one.state in LIVE for one in lost.certificates)
    allowed = way is HardwareWay.ALWAYS or (way is HardwareWay.EXPIRED and not is_live)
    assert (hardware_refusal(lost, way, is_same=True) == "") is allowed


@pytest.mark.parametrize("way", HardwareWay)
def test_other_hardware_and_a_device_that_is_kept_out_come_back_in_no_way(way: HardwareWay) -> None:
    lost = device(CertificateState.EXPIRED_FINAL)
    assert hardware_refusal(lost, way, is_same=False)
    assert hardware_refusal(replace(lost, suspended=True), way, is_same=True)
    assert hardware_refusal(replace(lost, alarm=Alarm.CLONE), way, is_same=True)
    assert hardware_refusal(replace(lost, code_conflict=True), way, is_same=True)


@pytest.mark.parametrize(
    ("state", "has_hardware", "way", "rung"),
    [
        (CertificateState.EXPIRED_GRACE, True, HardwareWay.EXPIRED, Rung.OLD_KEY),
        (CertificateState.EXPIRED_FINAL, True, HardwareWay.EXPIRED, Rung.HARDWARE),
        (CertificateState.EXPIRED_FINAL, True, HardwareWay.NEVER, Rung.CODE),
        (CertificateState.EXPIRED_FINAL, False, HardwareWay.ALWAYS, Rung.CODE),
        (CertificateState.REVOKED, True, HardwareWay.ALWAYS, Rung.CODE),
    ],
)
def test_the_lowest_rung_that_helps_is_the_one(
    state: CertificateState, has_hardware: bool, way: HardwareWay, rung: Rung
) -> None:
    assert next_rung(device(state), way, has_hardware=has_hardware) is rung


def test_the_ways_are_told_as_the_configuration_has_them() -> None:
    code = ("a code good for 30 days", "a station")
    told = ways_told(grace_days=7, way=HardwareWay.EXPIRED, code_days=30)
    assert told == ("its old key for 7 days", "its hardware once it has expired", *code)
    assert ways_told(grace_days=0, way=HardwareWay.NEVER, code_days=30) == code
    assert ways_told(grace_days=0, way=HardwareWay.ALWAYS, code_days=30) == ("its hardware", *code)


def test_the_guide_has_the_ladder_as_it_is() -> None:
    assert ladder_table() in GUIDE.read_text(encoding="utf-8")

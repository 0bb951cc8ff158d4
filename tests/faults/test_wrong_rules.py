"""The explorer can fail: each wrong rule that is put into the real cores is found, with the way to it."""

import pytest

from fleet.core import enrollment, events
from fleet.model import Certificate, CertificateState, ClientKind, Device
from tests.exploration.search import NO_WAY, explore
from tests.exploration.world import Fault
from tests.exploration.wrong_rules import MOST_STATES, SMALL, WRONG, explore_wrong, scenario


@pytest.mark.parametrize("name", SMALL)
def test_with_the_right_rules_the_same_worlds_are_clean(name: str) -> None:
    result = explore(SMALL[name], most_states=MOST_STATES)
    assert result.violation is None, f"{result}\n" + "\n".join(result.trace)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_is_found(name: str) -> None:
    result = explore_wrong(name)
    assert (result.violation or "clean").startswith(WRONG[name].finds), str(result)
    assert result.trace, "a counter-example is a way to it"


def test_a_late_duplicate_enroll_beside_a_newer_certificate_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def issue_blindly(device: Device, request: events.Enroll, _before: Certificate) -> events.Decision:
        issue = events.Issue(key_hash=request.key_hash, code_id=request.code_id)
        return events.Decision(device=device, verdict=issue)

    monkeypatch.setattr(enrollment, "AGAIN", {**enrollment.AGAIN, CertificateState.SUPERSEDED: issue_blindly})
    late = scenario(Fault.DUE, Fault.DUPLICATE, start="claimed", kind=ClientKind.PLAIN, keys=2)
    assert explore(late, most_states=MOST_STATES).violation == NO_WAY

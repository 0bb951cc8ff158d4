"""What the trail tells of a device brings an older copy of it to the very state that was committed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.problems import MalformedMessageError
from fleet.core import events, lifecycle, trace
from fleet.model import Alarm, Certificate, CertificateState, ClientKind, Code, Device, StaleHandshake
from tests.lives import IDENTITY, KINDS, certificate, device, key, serial

optional_serials = st.one_of(st.none(), st.integers(0, 9).map(serial))
stamps = st.one_of(st.none(), st.integers(0, 99))
certificates = st.builds(
    Certificate,
    serial=st.integers(1, 5).map(serial),
    key_hash=st.integers(1, 5).map(key),
    state=st.sampled_from(CertificateState),
    attempt=st.integers(0, 9),
    anchor=st.sampled_from(["", key(77)]),
    code_id=st.one_of(st.none(), st.just("c1")),
    parent=optional_serials,
    done_stamp=stamps,
    issued_stamp=stamps,
)
codes = st.builds(
    Code,
    code_id=st.sampled_from(["c1", "c2", "c3"]),
    key_hash=st.one_of(st.none(), st.integers(1, 3).map(key)),
)


@st.composite
def devices(draw: st.DrawFn) -> Device:
    rows = draw(st.lists(certificates, unique_by=lambda one: one.serial, max_size=4))
    return Device(
        identity=IDENTITY,
        kind=draw(st.sampled_from(ClientKind)),
        certificates=tuple(sorted(rows, key=lambda one: one.serial)),
        current=draw(optional_serials),
        codes=tuple(draw(st.lists(codes, unique_by=lambda one: one.code_id, max_size=3))),
        revoked=draw(st.booleans()),
        suspended=draw(st.booleans()),
        alarm=draw(st.sampled_from(Alarm)),
        code_conflict=draw(st.booleans()),
        base=draw(optional_serials),
        readmit=draw(st.booleans()),
        stale=draw(st.one_of(st.none(), st.just(StaleHandshake(serial=serial(3), stamp=7)))),
    )


@given(devices(), devices())
def test_every_change_is_followed_exactly(before: Device, after: Device) -> None:
    grown = {one.serial: one for one in (*before.certificates, *after.certificates)}
    after = lifecycle_kept(after, grown)
    text = trace.changes(before, after, origins={})
    followed = trace.follow(before, text).device if text else before
    assert in_order(followed) == in_order(after)


def lifecycle_kept(after: Device, grown: dict[str, Certificate]) -> Device:
    """Certificates never go away."""
    rows = tuple(grown[name] for name in sorted(grown))
    return Device(**{**fields_of(after), "certificates": rows})  # type: ignore[arg-type]  # names and values of a Device


def fields_of(found: Device) -> dict[str, object]:
    return {name: getattr(found, name) for name in Device.__slots__}


def in_order(found: Device) -> dict[str, object]:
    """Codes have no order of their own: the store gives them one."""
    return {**fields_of(found), "codes": sorted(found.codes, key=lambda code: code.code_id)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", CertificateState)
def test_what_an_operator_does_is_followed(kind: ClientKind, state: CertificateState) -> None:
    before = device(state, kind=kind)
    for event in (
        events.Suspend(),
        events.Revoke(),
        events.Grant(code_id="c9"),
        events.Replace(code_id="c9"),
    ):
        after = lifecycle.decide(before, event).device
        text = trace.changes(before, after, origins={})
        assert (trace.follow(before, text).device if text else before) == after


def test_nothing_is_told_where_nothing_changed() -> None:
    found = device(CertificateState.ACTIVE)
    assert trace.changes(found, found, origins={}) == ""


def test_a_new_grant_is_told_with_its_origin() -> None:
    before = Device(identity=IDENTITY)
    after = Device(identity=IDENTITY, codes=(Code(code_id="c1", key_hash=key(1)),))
    origin = trace.GrantOrigin(kind="claim", source=serial(9))
    text = trace.changes(before, after, origins={"c1": origin})
    assert trace.follow(before, text) == trace.Traced(device=after, origins={"c1": origin})


def test_the_form_never_changes() -> None:
    before = Device(identity=IDENTITY, certificates=(certificate(1, CertificateState.ACTIVE),))
    after = Device(
        identity=IDENTITY,
        certificates=(certificate(1, CertificateState.SUPERSEDED), certificate(2, CertificateState.ACTIVE)),
        current=serial(2),
    )
    assert json.loads(trace.changes(before, after, origins={})) == {
        "current": serial(2),
        "certificates": {
            serial(1): {"state": "superseded", "done_stamp": None},
            serial(2): {"key_hash": key(2), "state": "active", "done_stamp": 20},
        },
    }


@given(
    st.one_of(
        st.text(max_size=40), st.recursive(st.integers() | st.text(max_size=3), st.lists).map(json.dumps)
    )
)
def test_what_is_no_change_is_refused_as_malformed(text: str) -> None:
    with pytest.raises(MalformedMessageError):
        trace.follow(Device(identity=IDENTITY), text)

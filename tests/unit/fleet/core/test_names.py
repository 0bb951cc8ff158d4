"""Further names of a device: no pattern makes a name that another device, or the fleet itself, could have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.identity import Identity, dns_label, dns_name
from fleet.core.names import Subject, expand, fault_of, is_free
from fleet.errors import RefusedError

DEVICE = Subject(
    identity=Identity(domain="prod", device_id="Line_3"),
    fleet="acme",
    batch="b1",
    hardware="gw3",
    attributes=(("site", "hq"),),
)


PIECES = (
    *("{id}", "{domain}", "{fleet}", "{batch}", "{hardware}", "{attribute.a}", "{attribute.b}"),
    *(".", ".", ".", "-", "acme", "prod", "d1", "*", "{", "}"),
)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("{id}.gateways.example.org", f"{dns_label('Line_3')}.gateways.example.org"),
        ("{hardware}-{batch}.{id}.example.org", f"gw3-b1.{dns_label('Line_3')}.example.org"),
        ("{id}.{attribute.site}.example.org", f"{dns_label('Line_3')}.hq.example.org"),
        ("broker.{id}.{domain}.{fleet}", f"broker.{dns_label('Line_3')}.prod.acme"),
    ],
)
def test_a_pattern_gives_a_name_of_the_device(pattern: str, name: str) -> None:
    assert fault_of(pattern, fleet="acme") is None
    assert expand(pattern, DEVICE) == name


@pytest.mark.parametrize(
    "pattern",
    ["{id}.acme", "{id}.other.acme", "other-{id}.{domain}.{fleet}", "acme", "x.acme", "{id}..org", "{ID}.org",
     "{id}.{", "{id}.*.org", "{id}." + "a" * 64 + ".org", "a." * 130 + "{id}", "gw.example.org", "{id}"],
)  # fmt: skip
def test_a_pattern_that_could_be_anothers_name_or_is_none_is_refused(pattern: str) -> None:
    assert fault_of(pattern, fleet="acme") is not None


def test_a_device_that_lacks_what_a_pattern_speaks_of_gets_no_name() -> None:
    bare = Subject(identity=DEVICE.identity, fleet="acme", hardware="two words")

    for pattern in ("{id}.{batch}.org", "{id}.{hardware}.org", "{id}.{attribute.site}.org"):
        with pytest.raises(RefusedError):
            expand(pattern, bare)


@given(
    st.lists(st.sampled_from(PIECES), max_size=10).map("".join),
    st.from_regex(r"[A-Za-z0-9._-]{1,20}", fullmatch=True),
    st.sampled_from(["acme", "prod", "d1", ""]),
)
def test_no_pattern_makes_another_devices_name(pattern: str, device_id: str, word: str) -> None:
    identity = Identity(domain="prod", device_id=device_id)
    subject = Subject(
        identity=identity, fleet="acme", batch=word, hardware=word, attributes=(("a", "acme"), ("b", "prod"))
    )
    try:
        name = expand(pattern, subject)
    except RefusedError:
        return
    own = dns_name(identity, fleet="acme")
    assert is_free(name, own=own, fleet="acme")
    # A device's own name has three labels, the last of them the fleet's.
    assert not (name.endswith(".acme") and name.count(".") == 2 and name != own)

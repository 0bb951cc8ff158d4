"""HTTP basic: a device id and a code, or a refusal that repeats neither."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.secret import Secret
from fleet.channels.est_login import UnfitLoginError, read_login
from tests.est import basic

IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_:-]{0,63}", fullmatch=True)
CODES = st.text(alphabet="0123456789ABCDEFGHJKMNPQRSTVWXYZ-", min_size=1, max_size=40)


@given(IDS, CODES)
def test_a_device_id_keeps_its_colons_because_a_code_has_none(device_id: str, code: str) -> None:
    login = read_login(Secret(basic(device_id, code)))
    assert (login.device_id, login.code.reveal()) == (device_id, code)


@given(
    st.text(max_size=600) | st.binary(max_size=300).map(lambda raw: "Basic " + base64.b64encode(raw).decode())
)
def test_any_header_is_a_login_or_refused(header: str) -> None:
    try:
        login = read_login(Secret(header))
    except UnfitLoginError:
        return
    assert login.device_id
    assert login.code.reveal()


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic !!!",
        "Bearer abc",
        'Digest username="d1"',
        basic("d1", ""),
        basic("", "CODE"),
        basic("no.dots", "CODE"),
        basic("d1", "x" * 129),
        "Basic " + base64.b64encode(b"d1:\xff").decode(),
        "Basic " + base64.b64encode(b"no colon").decode(),
        basic("d1", "x" * 2000),
    ],
)
def test_what_names_nobody_is_refused(header: str) -> None:
    with pytest.raises(UnfitLoginError):
        read_login(Secret(header))


def test_a_refusal_does_not_repeat_the_code() -> None:
    with pytest.raises(UnfitLoginError) as caught:
        read_login(Secret(basic("no such id!", "ABCD-EFGH")))
    assert "ABCD" not in str(caught.value)
    assert "ABCD" not in repr(caught.value)

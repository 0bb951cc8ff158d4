"""A server that was not reached is told in words, with what to look at."""

import ssl

import pytest

from device_agent.channels.unreached import unreached

NETWORK = "is the address right, does the server run, and is the network there"


@pytest.mark.parametrize(
    ("error", "text", "hint"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused", NETWORK),
        (OSError(-2, "Name or service not known"), "Name or service not known", NETWORK),
        (
            ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)"),
            "wrong version number",
            "what answers at this port speaks no TLS: is it the right port",
        ),
        (
            ssl.SSLError(
                1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: expired (_ssl.c:1006)"
            ),
            "certificate verify failed: expired",
            "the server's certificate does not fit the roots given with --trust, or the clock is wrong",
        ),
    ],
)
def test_what_stood_in_the_way_is_told_without_numbers(error: Exception, text: str, hint: str) -> None:
    found = unreached("cannot reach https://h:443", error)
    assert (str(found), found.hint) == (f"cannot reach https://h:443: {text}", hint)

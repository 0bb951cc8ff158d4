"""RFC 7512 as this product takes it."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.errors import BadInputError
from device_agent.keys.uri import TOKEN_KINDS, parse_token_uri
from device_agent.wire.token_uri import TokenUri

MODULE = "module-path=/usr/lib/m.so"


def octets(most: int) -> st.SearchStrategy[str]:
    return st.text(max_size=most).filter(lambda text: text.isprintable() and len(text.encode()) <= most)


URIS = st.builds(
    TokenUri,
    token=octets(32).filter(bool),
    serial=octets(16),
    model=octets(16),
    manufacturer=octets(32),
    module_path=octets(64).map(lambda text: f"/{text}"),
    pin_source=octets(64),
    key_type=st.sampled_from(["", *TOKEN_KINDS]),
)


@given(uri=URIS)
def test_what_is_written_is_read_again(uri: TokenUri) -> None:
    # No library and no PIN file is named like the attribute that is refused wherever it stands.
    if "pin-value" not in uri.module_path + uri.pin_source:
        assert parse_token_uri(uri.text()) == uri


@given(text=st.text(alphabet="pkcs11:token=;?&module-path/%2\u00e9\x00", max_size=80))
def test_any_text_is_a_uri_or_bad_input(text: str) -> None:
    for candidate in (
        text,
        f"pkcs11:{text}",
        f"pkcs11:token=a;{text}?{MODULE}",
        f"pkcs11:token=a?{MODULE}&{text}",
    ):
        with contextlib.suppress(BadInputError):
            assert parse_token_uri(candidate).module_path.startswith("/")


def test_octets_are_unescaped() -> None:
    uri = parse_token_uri(f"pkcs11:token=My%20token%c3%A9;serial=01?{MODULE}&pin-source=file:/etc/pin")
    assert (uri.token, uri.serial, uri.pin_source) == ("My tokené", "01", "file:/etc/pin")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("token=a", "begins with pkcs11:"),
        ("PKCS11:token=a", "begins with pkcs11:"),
        ("pkcs11:", "names the token"),
        (f"pkcs11:?{MODULE}", "names the token"),
        ("pkcs11:token=a", "module-path"),
        ("pkcs11:token=a?module-path=m.so", "module-path"),
        (f"pkcs11:token=a;token=b?{MODULE}", "says token once"),
        (f"pkcs11:token=a?{MODULE}&{MODULE}", "says module-path once"),
        (f"pkcs11:token=a;?{MODULE}", "nothing but"),
        (f"pkcs11:token=a;slot-id=1?{MODULE}", "nothing but"),
        (f"pkcs11:token=a?{MODULE}&max-uses=1", "nothing but"),
        (f"pkcs11:token=?{MODULE}", "%XX"),
        (f"pkcs11:token=a b?{MODULE}", "%XX"),
        (f"pkcs11:token=%4?{MODULE}", "%XX"),
        (f"pkcs11:token=a%zz?{MODULE}", "%XX"),
        (f"pkcs11:token=%ff?{MODULE}", "UTF-8"),
        (f"pkcs11:token=a%00?{MODULE}", "printable"),
        (f"pkcs11:token={'a' * 33}?{MODULE}", "32 octets"),
        (f"pkcs11:token=a?{MODULE}{'a' * 2048}", "short"),
        (f"pkcs11:token=a?{MODULE}&key-type=ed25519", "another key-type"),
        (f"pkcs11:token=a?{MODULE}&key-type=", "%XX"),
    ],
)
def test_what_is_not_in_the_grammar_or_says_too_little_is_refused(text: str, why: str) -> None:
    with pytest.raises(BadInputError, match=why):
        parse_token_uri(text)


def test_a_pin_in_a_uri_is_refused_and_not_repeated() -> None:
    with pytest.raises(BadInputError, match="a PIN does not stand in a URI") as caught:
        parse_token_uri(f"pkcs11:token=a?{MODULE}&pin-value=1234")
    assert "1234" not in f"{caught.value}{caught.value.hint}"

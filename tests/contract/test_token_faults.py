"""A token that errs at each of its calls: told, never fatal, and over when the token is well again."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

import pytest

from device_agent.errors import KeyStoreError
from device_agent.keys import cryptoki
from device_agent.keys.pkcs11 import TokenKeyStore
from device_agent.keys.uri import parse_token_uri
from tests.tokens import MODULE, SoftHsm, SoftToken

pytestmark = pytest.mark.needs("softhsm2-util")

DEVICE_ERROR, NO_MEMORY = 0x30, 0x31
"""One after which a new start is tried, and one after which it is not."""


class Kind(Enum):
    REFUSED = "the token does nothing"
    ANSWER_LOST = "the token does it and says it did not"
    FOR_GOOD = "the token does nothing from then on"


@dataclass
class FaultyCalls:
    """Stands before the functions of the loaded module, and errs at one call."""

    calls: int = 0
    at: int = -1
    code: int = 0
    kind: Kind = Kind.REFUSED

    def around(self, real: Callable[..., int]) -> Callable[..., int]:
        def called(*arguments: object) -> int:
            self.calls += 1
            if self.calls == self.at or (self.kind is Kind.FOR_GOOD and 0 < self.at < self.calls):
                if self.kind is Kind.ANSWER_LOST:
                    real(*arguments)
                return self.code
            return real(*arguments)

        return called


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    with SoftHsm.at(tmp_path_factory.mktemp("softhsm")) as made:
        yield made


@pytest.fixture
def token(hsm: SoftHsm) -> SoftToken:
    return hsm.token()


@pytest.fixture
def keys(token: SoftToken, tmp_path: Path) -> TokenKeyStore:
    uri = replace(parse_token_uri(token.uri), object="device-agent-1")
    return TokenKeyStore(uri, refused_pins=tmp_path / "pin-refused")


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> FaultyCalls:
    module, made = cryptoki.load(MODULE), FaultyCalls()
    around = {name: made.around(real) for name, real in module._functions.items()}
    monkeypatch.setattr(module, "_functions", around)
    return made


def live(keys: TokenKeyStore) -> None:
    """Do all that an agent does with a key."""
    signer = keys.create("k-1")
    signer.sign(b"message")
    keys.open("k-1")
    assert keys.names() == ("k-1",)
    keys.destroy("k-1")


@pytest.mark.parametrize(
    ("code", "kind"),
    [(NO_MEMORY, Kind.REFUSED), *((DEVICE_ERROR, kind) for kind in Kind)],
)
def test_an_error_at_any_call_is_told_and_leaves_nothing_that_hinders(
    keys: TokenKeyStore, faults: FaultyCalls, code: int, kind: Kind
) -> None:
    live(keys)
    calls = faults.calls
    assert calls > 40
    for at in range(1, calls + 1):
        faults.calls, faults.at, faults.code, faults.kind = 0, at, code, kind
        with suppress(KeyStoreError):
            live(keys)
        faults.at = -1
        keys.destroy("k-1")
        assert keys.names() == ()
    live(keys)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("code", [DEVICE_ERROR, NO_MEMORY])
def test_a_key_signs_again_after_an_error_at_any_call_of_a_signature(
    keys: TokenKeyStore, faults: FaultyCalls, code: int, kind: Kind
) -> None:
    signer = keys.create("k-1")
    faults.calls = 0
    signer.sign(b"message")
    calls = faults.calls
    for at in range(1, calls + 1):
        faults.calls, faults.at, faults.code, faults.kind = 0, at, code, kind
        with suppress(KeyStoreError):
            signer.sign(b"message")
        faults.at = -1
        signer.sign(b"message")


@pytest.mark.parametrize(
    ("code", "words"),
    [(0x31, "no memory left"), (0xE2, "write-protected"), (0xB5, "only be read"), (0x70, "the mechanism")],
)
def test_a_token_that_is_full_or_read_only_is_told_so(
    keys: TokenKeyStore, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    keys.names()
    module = cryptoki.load(MODULE)
    full = {**module._functions, "C_GenerateKeyPair": lambda *_: code}
    monkeypatch.setattr(module, "_functions", full)
    with pytest.raises(KeyStoreError, match=words) as caught:
        keys.create("k-1")
    assert caught.value.hint
    assert keys.names() == ()


def test_a_token_that_somebody_initialised_anew_has_no_key_and_gets_none_by_itself(
    hsm: SoftHsm, token: SoftToken, keys: TokenKeyStore
) -> None:
    signer = keys.create("k-1")
    token.pull()
    hsm.token(label=token.label)
    with pytest.raises(KeyStoreError, match="there is no key k-1"):
        signer.sign(b"message")
    assert keys.names() == ()

"""What a token adds to the authority's keys: its PIN, being pulled, threads, forks, and what it says."""

import hashlib
import os
import ssl
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from device_agent.wire.token_uri import TokenUri

pkcs11 = pytest.importorskip("pkcs11")

from pkcs11 import exceptions  # noqa: E402 - an extra, which may be missing

from fleet.ca import token_module  # noqa: E402 - as above
from fleet.ca.signers import Signer, is_signed, make_authority_key  # noqa: E402 - as above
from fleet.ca.token import TokenSigner, make_token_key  # noqa: E402 - as above
from fleet.ca.token_keys import TokenKeys, parse_token  # noqa: E402 - as above
from fleet.ca.token_module import OpenToken, TokenModule, module_at  # noqa: E402 - as above
from fleet.ca.token_pins import TokenPins  # noqa: E402 - as above
from fleet.core.goodkey import KeyType  # noqa: E402 - as above
from fleet.errors import BadInputError, FleetError, NotFoundError, RefusedError, UnreachableError  # noqa: E402 - as above
from tests.tokens import SoftHsm, SoftToken  # noqa: E402 - as above

pytestmark = pytest.mark.needs("softhsm2-util")


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    with SoftHsm.at(tmp_path_factory.mktemp("softhsm")) as made:
        yield made


@pytest.fixture
def token(hsm: SoftHsm) -> SoftToken:
    return hsm.token()


@pytest.fixture(scope="module")
def one_token(hsm: SoftHsm) -> SoftToken:
    return hsm.token()


def made_in(token: SoftToken, folder: Path, kind: KeyType = KeyType.P256, *, label: str = "k") -> Signer:
    return TokenKeys(folder / "refused").make(
        folder / f"{label}.pkcs11", parse_token(token.uri), label=label, key_type=kind
    )


def require_signature(signer: Signer) -> None:
    assert is_signed(signer.public_key, signer.sign(b"message"), b"message")


def test_the_file_of_a_key_names_it_and_holds_no_pin(token: SoftToken, tmp_path: Path) -> None:
    made = made_in(token, tmp_path)
    text = (tmp_path / "k.pkcs11").read_text()
    assert parse_token(text.strip()).object == "k"
    assert "123456" not in text
    require_signature(TokenKeys().signer(tmp_path / "k.pkcs11", made.public_key))


def test_a_key_is_never_made_over_another(token: SoftToken, tmp_path: Path) -> None:
    first = made_in(token, tmp_path)
    with pytest.raises(RefusedError, match="a key k in the token already"):
        made_in(token, tmp_path)
    require_signature(first)


def test_a_key_that_could_be_taken_out_is_not_used(token: SoftToken, tmp_path: Path) -> None:
    key = make_authority_key(KeyType.P256)
    made_in(token, tmp_path, label="other")
    token.import_key(key, label="k", key_id=hashlib.sha256(b"k").digest()[:20])  # type: ignore[arg-type]
    uri = parse_token(token.uri.replace("?", ";object=k?"))
    signer = TokenSigner(uri, pins=TokenPins(uri.pin_source, refused=None), public_key=key.public_key())
    module_at(uri.module_path).within(uri, TokenPins(uri.pin_source, refused=None), lambda _token: None)
    with pytest.raises(BadInputError, match=r"inside: .*never_extractable, local"):
        signer.unlock()


def test_a_wrong_pin_is_shown_to_the_token_once_by_all_processes_together(
    token: SoftToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    log_in = token_module._log_in
    token.pin_file.write_text("999999\n")

    def counted(found: pkcs11.types.Token, pin: str) -> pkcs11.types.Session:
        shown.append(pin)
        return log_in(found, pin)

    monkeypatch.setattr(token_module, "_log_in", counted)
    with pytest.raises(BadInputError, match="refuses the PIN") as caught:
        made_in(token, tmp_path)
    assert "999999" not in f"{caught.value}{caught.value.hint}"
    for _ in range(3):  # each with nothing remembered but what is on the disk
        with pytest.raises(BadInputError, match="not tried again"):
            made_in(token, tmp_path)
    token.pin_file.write_text("123456\n")
    require_signature(made_in(token, tmp_path))
    assert shown == ["999999", "123456"]


def test_a_pin_that_others_can_read_is_not_used(token: SoftToken, tmp_path: Path) -> None:
    token.pin_file.chmod(0o644)
    with pytest.raises(BadInputError, match="can be read by others"):
        made_in(token, tmp_path)


def test_a_pin_may_come_by_a_descriptor_and_is_kept(token: SoftToken, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"123456\n")
    os.close(writing)
    uri = parse_token(token.uri.replace(f"file:{token.pin_file}", f"fd:{reading}"))
    keys = TokenKeys()
    for label in ("one", "two"):
        require_signature(keys.make(tmp_path / label, uri, label=label, key_type=KeyType.P256))


@pytest.mark.parametrize("source", ["fd:0", "fd:x", "fd:999", "pin", "file:relative"])
def test_a_pin_source_that_is_none_is_refused(token: SoftToken, tmp_path: Path, source: str) -> None:
    uri = parse_token(token.uri.replace(f"file:{token.pin_file}", source))
    with pytest.raises(FleetError, match=r"PIN|pin-source|descriptor"):
        TokenKeys().make(tmp_path / "k", uri, label="k", key_type=KeyType.P256)


def test_a_token_that_was_pulled_is_told_of_and_used_again_when_it_is_back(
    token: SoftToken, tmp_path: Path
) -> None:
    signer = made_in(token, tmp_path)
    token.pull()
    with pytest.raises(NotFoundError, match="there is no token"):
        signer.sign(b"message")
    token.put_back()
    require_signature(signer)


def test_another_tokens_keys_go_on_while_one_is_away(hsm: SoftHsm, tmp_path: Path) -> None:
    here, away = hsm.token(), hsm.token()
    signer, gone = made_in(here, tmp_path, label="here"), made_in(away, tmp_path, label="away")
    away.pull()
    for _ in range(3):
        with pytest.raises(NotFoundError):
            gone.sign(b"message")
        require_signature(signer)
    away.put_back()
    require_signature(gone)


def test_a_forked_child_signs_and_does_not_disturb_its_parent(token: SoftToken, tmp_path: Path) -> None:
    signer = made_in(token, tmp_path)
    require_signature(signer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork: that is what is tested
        child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if is_signed(signer.public_key, signer.sign(b"child"), b"child") else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    require_signature(signer)


def test_many_threads_sign_at_once(token: SoftToken, tmp_path: Path) -> None:
    signer = made_in(token, tmp_path)
    with ThreadPoolExecutor(8) as pool:
        signatures = list(pool.map(signer.sign, [b"message"] * 200))
    assert all(is_signed(signer.public_key, signature, b"message") for signature in signatures)


def test_a_modules_errors_do_not_end_a_healthy_tls_connection(token: SoftToken, tmp_path: Path) -> None:
    signer = made_in(token, tmp_path)
    token.pull()
    inside, outside = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    connection = context.wrap_bio(inside, outside, server_hostname="localhost")
    for _ in range(3):
        with pytest.raises(NotFoundError):
            signer.sign(b"message")
        with pytest.raises(ssl.SSLWantReadError):  # and no other SSLError, which would end it
            connection.do_handshake()
    token.put_back()


def test_a_module_that_hangs_is_told_of_and_holds_up_nobody(token: SoftToken) -> None:
    uri, released = parse_token(token.uri), threading.Event()
    module = TokenModule(uri.module_path, patience_seconds=0.05)
    pins = TokenPins(uri.pin_source, refused=None)

    def hang(_token: OpenToken) -> None:
        released.wait()

    module_at(uri.module_path).within(uri, pins, lambda _token: None)  # the library is loaded once
    module._attempt = lambda _uri, _pin, act: act(OpenToken(None))  # type: ignore[method-assign,assignment,arg-type]
    with pytest.raises(UnreachableError, match="has not answered"):
        module.within(uri, pins, hang)
    with pytest.raises(UnreachableError, match="has not answered"):
        module.within(uri, pins, lambda _token: None)  # at once: it is not queued behind what hangs
    released.set()
    for _ in range(1000):
        try:
            module.within(uri, pins, lambda _token: None)
        except UnreachableError:
            threading.Event().wait(0.001)
        else:
            return
    pytest.fail("it does not come back")


ERRORS = sorted(
    (one for one in vars(exceptions).values() if isinstance(one, type) and one is not exceptions.PKCS11Error),
    key=lambda one: one.__name__,
)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_whatever_a_token_says_is_told_in_words_with_a_way_out(
    one_token: SoftToken, kind: type[exceptions.PKCS11Error]
) -> None:
    uri = parse_token(one_token.uri)

    def fail(_token: OpenToken) -> None:
        raise kind

    with pytest.raises(FleetError, match=kind.__name__) as caught:
        module_at(uri.module_path).within(uri, TokenPins(uri.pin_source, refused=None), fail)
    assert caught.value.hint


@pytest.mark.parametrize("path", ["/nowhere/module.so", "/dev/null"])
def test_what_is_no_module_is_told(token: SoftToken, tmp_path: Path, path: str) -> None:
    uri = TokenUri(module_path=path, token=token.label, pin_source=f"file:{token.pin_file}")
    with pytest.raises(NotFoundError, match="no PKCS#11 module"):
        make_token_key(uri, KeyType.P256, pins=TokenPins(uri.pin_source, refused=None))


def test_a_kind_of_key_that_tokens_do_not_make_is_refused(token: SoftToken, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no ml-dsa-44 key"):
        made_in(token, tmp_path, KeyType.ML_DSA_44)


def test_a_file_that_names_no_key_is_told(tmp_path: Path) -> None:
    (tmp_path / "k.pkcs11").write_text("junk")
    with pytest.raises(BadInputError, match="names no key"):
        TokenKeys().signer(tmp_path / "k.pkcs11", make_authority_key(KeyType.P256).public_key())


def test_a_machine_without_the_extra_is_told_what_to_install(
    token: SoftToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fleet.ca.token", None)
    with pytest.raises(FleetError, match="python-pkcs11") as caught:
        made_in(token, tmp_path)
    assert "fleet-provisioning[hsm]" in str(caught.value.hint)

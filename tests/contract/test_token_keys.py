"""What a token adds to a key store: its PIN, its being pulled, threads, forks, and TLS without the key."""

import _ctypes
import asyncio
import ctypes
import gc
import hashlib
import logging
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from device_agent.core.csr import csr_der, csr_pem
from device_agent.errors import KeyStoreError
from device_agent.keys import openssl_library, openssl_provider, sidecar
from device_agent.keys.cryptoki import Session
from device_agent.keys.kinds import KeyKind
from device_agent.keys.openssl_library import library
from device_agent.keys.pkcs11 import TokenKeyStore
from device_agent.keys.uri import TOKEN_KINDS, parse_token_uri
from device_agent.ports import Signer
from device_agent.wire.identity import Identity
from tests.pki import Pki, pem_of
from tests.provisioner import leaf_for
from tests.tokens import SoftHsm, SoftToken

pytestmark = pytest.mark.needs("softhsm2-util")
PKI = Pki()
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    with SoftHsm.at(tmp_path_factory.mktemp("softhsm")) as made:
        yield made


@pytest.fixture
def token(hsm: SoftHsm) -> SoftToken:
    return hsm.token()


@pytest.fixture
def keys(token: SoftToken, tmp_path: Path) -> TokenKeyStore:
    return opened(token, tmp_path)


def opened(
    token: SoftToken, folder: Path, *, device: str = "device-agent-1", kind: KeyKind = KeyKind.P256
) -> TokenKeyStore:
    uri = replace(parse_token_uri(token.uri), object=device, key_type=kind)
    return TokenKeyStore(uri, refused_pins=folder / "pin-refused")


def require_signature(signer: Signer, message: bytes = b"message") -> None:
    public_key = load_der_public_key(signer.public_key_der)
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    public_key.verify(signer.sign(message), message, ec.ECDSA(hashes.SHA256()))


def chain_of(signer: Signer) -> str:
    csr = csr_pem(csr_der("d1", public_key_der=signer.public_key_der, sign=signer.sign))
    issuer = PKI.devices["prod"]
    leaf = leaf_for(csr, issuer, Identity(domain="prod", device_id="d1"), serial="4" * 32)
    return (pem_of(leaf) + pem_of(issuer.certificate)).decode()


def test_the_key_of_a_generation_has_a_uri_without_its_pin(keys: TokenKeyStore) -> None:
    keys.create("k-1")
    reference = keys.reference("k-1")
    assert parse_token_uri(reference.replace(";type=private", "")).object == "device-agent-1.k-1"
    assert "123456" not in reference


def test_another_devices_keys_in_the_same_token_are_left_alone(token: SoftToken, tmp_path: Path) -> None:
    one, other = opened(token, tmp_path), opened(token, tmp_path, device="device-agent-2")
    one.create("k-1")
    assert other.names() == ()
    other.destroy("k-1")
    require_signature(one.open("k-1"))


def test_a_key_that_the_token_would_give_out_is_refused(token: SoftToken, keys: TokenKeyStore) -> None:
    label = "device-agent-1.k-1"
    token.import_key(
        ec.generate_private_key(ec.SECP256R1()),
        label=label,
        key_id=hashlib.sha256(label.encode()).digest()[:20],
    )
    assert keys.names() == ("k-1",)
    with pytest.raises(KeyStoreError, match=r"inside: .*never_extractable, local"):
        keys.open("k-1")


def test_a_wrong_pin_is_tried_once_and_the_right_one_then_taken(
    token: SoftToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []
    real = Session.log_in

    def counted(session: Session, pin: str) -> None:
        tries.append(pin)
        real(session, pin)

    monkeypatch.setattr(Session, "log_in", counted)
    token.pin_file.write_text("999999\n")
    with pytest.raises(KeyStoreError, match="refuses the PIN") as caught:
        opened(token, tmp_path).names()
    assert "999999" not in f"{caught.value}{caught.value.hint}"
    for _ in range(3):
        with pytest.raises(KeyStoreError, match="not tried again"):
            opened(token, tmp_path).names()
    token.pin_file.write_text("123456\n")
    assert opened(token, tmp_path).names() == ()
    assert tries == ["999999", "123456"]
    assert not (tmp_path / "pin-refused").exists()


def test_a_pulled_token_is_told_and_found_again(token: SoftToken, keys: TokenKeyStore) -> None:
    signer = keys.create("k-1")
    chain = chain_of(signer)
    token.pull()
    with pytest.raises(KeyStoreError, match=f"there is no token {token.label}"):
        signer.sign(b"message")
    with pytest.raises(KeyStoreError, match=f"there is no token {token.label}"):
        keys.create("k-2")
    with pytest.raises(KeyStoreError, match=f"there is no token {token.label}"):
        signer.arm(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), chain_pem=chain)
    token.put_back()
    require_signature(signer)
    assert keys.names() == ("k-1",)


def test_two_tokens_of_one_name_are_not_chosen_between(
    hsm: SoftHsm, token: SoftToken, tmp_path: Path
) -> None:
    hsm.token(label=token.label)
    with pytest.raises(KeyStoreError, match="there are 2 tokens") as caught:
        opened(token, tmp_path).names()
    assert "serial=" in str(caught.value.hint)


def test_a_module_that_is_none_is_told(token: SoftToken, tmp_path: Path) -> None:
    for path in ("/nowhere.so", ssl.__file__, openssl_library._ssl.__file__):
        uri = replace(parse_token_uri(token.uri), object="d", module_path=path)
        with pytest.raises(KeyStoreError, match="no PKCS#11 module"):
            TokenKeyStore(uri, refused_pins=tmp_path / "pin-refused").names()


def test_threads_sign_with_one_token_while_it_is_looked_for_anew(keys: TokenKeyStore) -> None:
    signers = [keys.create(f"k-{number}") for number in range(4)]

    def work(number: int) -> None:
        for count in range(25):
            require_signature(signers[number % 4], b"%d" % count)
            if number == 0:
                with pytest.raises(KeyStoreError, match="no key"):
                    keys.open("absent")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_a_forked_child_signs_and_so_does_its_parent(keys: TokenKeyStore) -> None:
    signer = keys.create("k-1")
    child = os.fork()
    if child == 0:
        try:
            require_signature(signer)
            os._exit(0)
        finally:
            os._exit(1)
    require_signature(signer)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    require_signature(signer)


@pytest.mark.parametrize("kind", TOKEN_KINDS)
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_server_knows_the_device_by_the_tokens_key(
    token: SoftToken, tmp_path: Path, version: ssl.TLSVersion, kind: KeyKind
) -> None:
    context = armed(opened(token, tmp_path, kind=kind).create("k-1"), version)
    assert await handshakes(context, tmp_path, count=10) == ["4" * 32] * 10


@pytest.mark.parametrize("digest", ["SHA256", "SHA384", "SHA512"])
@pytest.mark.parametrize(
    ("kind", "scheme"),
    [(KeyKind.P256, "ECDSA"), (KeyKind.P384, "ECDSA"), (KeyKind.RSA, "RSA"), (KeyKind.RSA, "RSA-PSS")],
)
async def test_a_server_may_ask_for_each_scheme_and_digest(
    token: SoftToken, tmp_path: Path, kind: KeyKind, scheme: str, digest: str
) -> None:
    context = armed(opened(token, tmp_path, kind=kind).create("k-1"), ssl.TLSVersion.TLSv1_2)
    sign_with(context, f"{scheme}+{digest}")
    assert len(await handshakes(context, tmp_path, count=1)) == 1


async def test_a_scheme_with_sha_1_is_not_signed_with(token: SoftToken, tmp_path: Path) -> None:
    context = armed(opened(token, tmp_path, kind=KeyKind.RSA).create("k-1"), ssl.TLSVersion.TLSv1_2)
    sign_with(context, "RSA+SHA1")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await handshakes(context, tmp_path, count=1)


def sign_with(context: ssl.SSLContext, schemes: str) -> None:
    """Say what the client may sign with: SSL_CTRL_SET_CLIENT_SIGALGS_LIST (openssl/ssl.h)."""
    openssl = library()
    control = openssl.function(
        "SSL_CTX_ctrl", ctypes.c_long, ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p
    )
    assert control(openssl.context_pointer(context), 102, 0, schemes.encode()) == 1


async def test_a_token_pulled_before_the_handshake_fails_it_with_its_reason_in_the_log(
    token: SoftToken, keys: TokenKeyStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context = armed(keys.create("k-1"), ssl.TLSVersion.TLSv1_3)
    token.pull()
    with caplog.at_level(logging.ERROR), pytest.raises(ssl.SSLError):
        await handshakes(context, tmp_path, count=1)
    assert "the key does not sign: there is no token" in caplog.text
    token.put_back()
    assert len(await handshakes(context, tmp_path, count=1)) == 1


def test_a_tokens_troubles_do_not_reach_other_connections_of_the_thread(
    token: SoftToken, keys: TokenKeyStore
) -> None:
    peek = library().function("ERR_peek_error", ctypes.c_long)
    signer = keys.create("k-1")
    token.pull()
    with pytest.raises(KeyStoreError):
        signer.sign(b"message")
    token.put_back()
    signer.sign(b"message")
    assert peek() == 0


def test_openssl_holds_a_key_no_longer_than_its_context(keys: TokenKeyStore) -> None:
    gc.collect()
    held = openssl_provider._provider()._keys.held
    before = len(held)
    signer = keys.create("k-1")
    chain = chain_of(signer)
    contexts = [ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) for _ in range(5)]
    for context in contexts:
        signer.arm(context, chain_pem=chain)
    assert len(held) == before + 5
    context = contexts[0]
    del contexts, context
    assert len(held) == before
    assert not openssl_provider._provider()._keys.offered


def test_a_context_that_was_armed_keeps_its_settings(keys: TokenKeyStore) -> None:
    context = armed(keys.create("k-1"), ssl.TLSVersion.TLSv1_2)
    assert (context.minimum_version, context.maximum_version) == (ssl.TLSVersion.TLSv1_2,) * 2


WRONG = {
    "not CPython's with a shared OpenSSL": (openssl_library, "_ssl", SimpleNamespace()),
    "its OpenSSL is not shared": (
        openssl_library,
        "_ssl",
        SimpleNamespace(__file__=_ctypes.__file__),
    ),
    "OpenSSL 3 is needed": (ssl, "OPENSSL_VERSION_INFO", (4, 0, 0, 0, 0)),
    "another OpenSSL stands before its own": (ssl, "OPENSSL_VERSION", "OpenSSL 3.0.0"),
    "0 libssl are loaded": (openssl_library, "_mapped", set),
    "2 libssl are loaded": (openssl_library, "_mapped", lambda: {"/a/libssl.so.3", "/b/libssl.so.3"}),
    "laid out in another way than known": (openssl_library, "_GET_MIN_PROTO_VERSION", 131),
}


@pytest.mark.parametrize("why", WRONG)
def test_a_python_whose_tls_cannot_be_reached_is_refused_and_no_key_in_a_file_is_made(
    keys: TokenKeyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    signer = keys.create("k-1")
    chain = chain_of(signer)
    before = set(tmp_path.rglob("*"))
    place, name, found = WRONG[why]
    monkeypatch.setattr(place, name, found)
    monkeypatch.setattr(sidecar, "_PROGRAMS", ())
    openssl_library._opened.cache_clear()
    with pytest.raises(KeyStoreError, match=f"{why}.*; and there is no stunnel") as caught:
        signer.arm(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), chain_pem=chain)
    openssl_library._opened.cache_clear()
    assert str(caught.value).count("cannot use a token's key for TLS") == 1
    assert "apt-get install stunnel4" in str(caught.value.hint)
    assert set(tmp_path.rglob("*")) == before


def test_a_process_ends_well_while_contexts_are_armed(token: SoftToken, tmp_path: Path) -> None:
    program = f"""
import ssl
from pathlib import Path
from tests.contract.test_token_keys import armed, opened
from tests.tokens import SoftToken
token = SoftToken(label={token.label!r}, pin_file=Path({str(token.pin_file)!r}), folder=Path("/nowhere"))
kept = armed(opened(token, Path({str(tmp_path)!r})).create("k-1"), ssl.TLSVersion.TLSv1_3)
print("armed")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "armed\n", "")


def test_a_service_that_may_make_no_memory_executable_signs_all_the_same(
    token: SoftToken, tmp_path: Path
) -> None:
    program = f"""
import asyncio, ctypes, ssl, sys
from pathlib import Path
# PR_SET_MDWE with PR_MDWE_REFUSE_EXEC_GAIN (Linux 6.3), as MemoryDenyWriteExecute= asks for.
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) != 0:
    sys.exit(77)
from tests.contract.test_token_keys import armed, handshakes, opened
from tests.tokens import SoftToken
token = SoftToken(label={token.label!r}, pin_file=Path({str(token.pin_file)!r}), folder=Path("/nowhere"))
folder = Path({str(tmp_path)!r})
context = armed(opened(token, folder).create("k-1"), ssl.TLSVersion.TLSv1_3)
print(len(asyncio.run(handshakes(context, folder, count=1))))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if ended.returncode == 77:
        pytest.skip("this kernel has no PR_SET_MDWE: Linux 6.3 has")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "1\n", "")


def armed(signer: Signer, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = version
    context.load_verify_locations(cadata=pem_of(PKI.roots["fleet"].certificate).decode())
    signer.arm(context, chain_pem=chain_of(signer))
    return context


async def handshakes(context: ssl.SSLContext, folder: Path, *, count: int) -> list[str]:
    """Connect so often to a server that wants a device's certificate; return the serials it saw."""
    certificate, key = PKI.server().write(folder, "server")
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(certificate, key)
    server_context.verify_mode = ssl.CERT_REQUIRED
    server_context.load_verify_locations(cadata=pem_of(PKI.roots["prod"].certificate).decode())
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer: dict[str, str] = writer.get_extra_info("peercert")
        seen.append(peer["serialNumber"])
        writer.write(await reader.readexactly(1))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context) as server:
        port = server.sockets[0].getsockname()[1]
        for _ in range(count):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=context, server_hostname="localhost"
            )
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            writer.close()
            await writer.wait_closed()
    return seen

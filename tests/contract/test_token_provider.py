"""TLS with a token's key by OpenSSL's own pkcs11-provider; the trial before it is used; what if it fails.

Debian 13 has the provider (`pkcs11-provider`), Debian 12 does not: what needs it is left out where it is not.
`make provider` runs them. PKCS11_PROVIDER names another one than the system's.
"""

import base64
import logging
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from cryptography import x509

from device_agent.errors import KeyStoreError
from device_agent.keys import openssl_library, provider_key, sidecar
from device_agent.keys.chains import readable
from device_agent.keys.openssl_library import has_provider
from device_agent.keys.pkcs11 import TokenKeyStore
from device_agent.keys.tls_trial import require_handshake
from device_agent.keys.token_tls import Way
from device_agent.wire.secret import Secret
from tests.contract.test_token_keys import chain_of, opened
from tests.pki import Pki
from tests.provider import provider_path
from tests.tokens import MODULE, PIN, SoftHsm, SoftToken

needs_tokens = pytest.mark.needs("softhsm2-util")
URI = f"pkcs11:token=t;object=d.k-1;type=private?module-path={MODULE}&pin-source=file:/pin"


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    with SoftHsm.at(tmp_path_factory.mktemp("softhsm")) as made:
        yield made


@pytest.fixture
def token(hsm: SoftHsm) -> SoftToken:
    return hsm.token()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[SoftToken]:
    """Return the one token of its library: the provider of Debian 13 mistakes one for another."""
    with SoftHsm.at(tmp_path / "softhsm") as made:
        yield made.token()


@pytest.fixture
def keys(token: SoftToken, tmp_path: Path) -> TokenKeyStore:
    return opened(token, tmp_path)


@pytest.fixture(scope="module")
def provider() -> Path:
    """Return the provider of this machine."""
    found = provider_path()
    assert found is not None, "apt-get install pkcs11-provider (Debian 13), or name one by PKCS11_PROVIDER"
    return found


def configured(folder: Path, provider: Path, *, module: str = MODULE, most: str = "TLSv1.3") -> Path:
    """Write a configuration of OpenSSL (config(5)) as the guide has it; `most` is the highest TLS version."""
    config = folder / "openssl.cnf"
    config.write_text(
        dedent(f"""\
        openssl_conf = all
        [all]
        providers = providers
        alg_section = properties
        ssl_conf = tls
        [properties]
        default_properties = ?provider=default
        [tls]
        system_default = versions
        [versions]
        MaxProtocol = {most}
        [providers]
        default = usual
        pkcs11 = tokens
        [usual]
        activate = 1
        [tokens]
        module = {provider}
        pkcs11-module-path = {module}
        pkcs11-module-cache-keys = false
        pkcs11-module-quirks = no-deinit
        activate = 1
        """)
    )
    return config


def run(
    program: str, token: SoftToken, folder: Path, *, provider: Path, module: str = MODULE
) -> subprocess.CompletedProcess[str]:
    """Run a program whose OpenSSL is configured with the provider, and which has the token's keys."""
    config = configured(folder, provider, module=module)
    before = f"""\
import asyncio, logging, ssl, sys
from pathlib import Path
from device_agent.errors import KeyStoreError
from device_agent.keys.kinds import KeyKind
from tests.contract.test_token_keys import VERSIONS, armed, chain_of, handshakes, opened
from tests.tokens import SoftToken
logging.basicConfig(stream=sys.stdout, format="%(message)s")
folder = Path({str(folder)!r})
token = SoftToken(
    label={token.label!r}, pin_file=Path({str(token.pin_file)!r}), folder=Path({str(token.folder)!r})
)
def way(signer):
    return signer.arm_by(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), chain_pem=chain_of(signer)).way
def connects(signer, version):
    return len(asyncio.run(handshakes(armed(signer, version), folder, count=3)))
"""
    return subprocess.run(
        [sys.executable, "-c", before + dedent(program)],
        env={**os.environ, "OPENSSL_CONF": str(config)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.provider
@needs_tokens
def test_keys_of_each_kind_are_used_by_the_provider_through_a_whole_life(
    alone: SoftToken, tmp_path: Path, provider: Path
) -> None:
    program = """
    for kind in (KeyKind.P256, KeyKind.P384, KeyKind.RSA):
        keys = opened(token, folder, device=f"d-{kind}", kind=kind)
        first = keys.create("k-1")
        for version in VERSIONS:
            print(kind, way(first), connects(first, version))
        second = keys.create("k-2")
        print(kind, way(second), connects(second, version))
        keys.destroy("k-1")
        print(kind, way(second), connects(second, version), *keys.names())
    """
    ended = run(program, alone, tmp_path, provider=provider)
    expected = [
        f"{kind} {Way.PROVIDER} 3{names}"
        for kind in ("p256", "p384", "rsa")
        for names in ("", "", "", " k-2")
    ]
    assert (ended.stdout.splitlines(), ended.returncode) == (expected, 0), ended.stderr


@pytest.mark.provider
@needs_tokens
def test_a_provider_that_does_not_reach_the_token_is_told_and_the_next_way_taken(
    alone: SoftToken, tmp_path: Path, provider: Path
) -> None:
    program = """
    signer = opened(token, folder).create("k-1")
    print(way(signer), connects(signer, VERSIONS[1]), sep=": ")
    """
    ended = run(program, alone, tmp_path, provider=provider, module="/nowhere.so")
    assert ended.stdout.splitlines() == [
        f"OpenSSL's pkcs11 provider does not find the key; until the next start TLS signs by {Way.OWN}",
        f"{Way.OWN}: 3",
    ]
    assert ended.stderr == ""


@pytest.mark.provider
@needs_tokens
def test_a_provider_is_not_asked_while_the_token_itself_does_not_sign(
    alone: SoftToken, tmp_path: Path, provider: Path
) -> None:
    program = """
    signer = opened(token, folder).create("k-1")
    print(way(signer))
    token.pull()
    try:
        way(signer)
    except KeyStoreError as error:
        print(error)
    token.put_back()
    connects(signer, VERSIONS[1])
    print("connects")
    """
    ended = run(program, alone, tmp_path, provider=provider)
    first, pulled, *_, last = ended.stdout.splitlines()
    assert (first, last) == (Way.PROVIDER, "connects"), ended.stdout + ended.stderr
    assert f"there is no token {alone.label}" in pulled


@pytest.mark.provider
@needs_tokens
def test_the_provider_is_given_no_pin_that_the_token_has_not_taken(
    alone: SoftToken, tmp_path: Path, provider: Path
) -> None:
    program = """
    signer = opened(token, folder).create("k-1")
    token.pin_file.write_text("999999\\n")
    print(way(opened(token, folder).open("k-1")))
    """
    ended = run(program, alone, tmp_path, provider=provider)
    assert "the token refuses the PIN" in ended.stderr
    assert "999999" not in ended.stdout + ended.stderr.replace("999999\\n", "")


@needs_tokens
def test_a_provider_that_fails_is_given_up_for_good_and_no_key_in_a_file_is_made(
    keys: TokenKeyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    signer, asked = keys.create("k-1"), list[str]()
    before = set(tmp_path.rglob("*"))

    def fails(*_: object, pin: Secret, **__: object) -> None:
        asked.append(pin.reveal())
        raise KeyStoreError("a trial of the key failed")

    monkeypatch.setattr(provider_key, "is_configured", lambda: True)
    monkeypatch.setattr(provider_key, "arm", fails)
    chain = chain_of(signer)
    with caplog.at_level(logging.WARNING):
        contexts = [ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) for _ in range(2)]
        ways = [signer.arm_by(context, chain_pem=chain).way for context in contexts]
    assert (ways, asked) == ([Way.OWN] * 2, [PIN])
    assert caplog.text.count("a trial of the key failed; until the next start") == 1
    assert PIN not in caplog.text
    assert set(tmp_path.rglob("*")) == before


@needs_tokens
def test_where_no_way_is_left_the_token_is_not_used_and_no_file_instead(
    keys: TokenKeyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = keys.create("k-1")
    chain, before = chain_of(signer), set(tmp_path.rglob("*"))
    monkeypatch.setattr(openssl_library, "_mapped", set)
    monkeypatch.setattr(sidecar, "_PROGRAMS", ())
    openssl_library._opened.cache_clear()
    with pytest.raises(KeyStoreError, match="cannot use a token's key for TLS"):
        signer.arm(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), chain_pem=chain)
    openssl_library._opened.cache_clear()
    assert set(tmp_path.rglob("*")) == before


def test_an_openssl_that_was_not_configured_with_a_provider_has_none() -> None:
    assert has_provider("default")
    assert not has_provider("nothing-of-this-name")


def test_a_text_for_the_provider_is_der_in_pem_and_says_the_key_and_its_pin_alone() -> None:
    lines = provider_key.key_pem(URI, Secret("p&n 1")).splitlines()
    der = base64.b64decode("".join(lines[1:-1]))
    assert lines[0] == "-----BEGIN PKCS#11 PROVIDER URI-----"
    uri = b"pkcs11:token=t;object=d.k-1;type=private?pin-value=p%26n%201"
    inside = b"\x1a\x19PKCS#11 Provider URI v1.0\x0c" + bytes([len(uri)]) + uri
    assert der == bytes([0x30, len(inside)]) + inside


@pytest.mark.parametrize("length", [0x7F, 0x80, 0xFF, 0x100, 0x1234])
def test_lengths_of_a_text_for_the_provider_are_der(length: int) -> None:
    octets = provider_key._tlv(0x04, bytes(length))
    wrapped = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), octets)
    assert len(wrapped.value) == length + (2 if length < 0x80 else 3 if length < 0x100 else 4)
    assert octets[1] == (length if length < 0x80 else 0x81 if length < 0x100 else 0x82)


def test_a_trial_takes_a_key_that_authenticates_and_no_other(tmp_path: Path) -> None:
    pki = Pki()
    pair = pki.device("prod:d1")
    certificate, key = pair.write(tmp_path, "d1")
    chain = certificate.read_text()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with pytest.raises(KeyStoreError, match=r"a trial of the key in TLSv1_[23] failed"):
        require_handshake(context, chain_pem=chain)
    with readable(chain) as path:
        context.load_cert_chain(path, key)
    require_handshake(context, chain_pem=chain)
    with pytest.raises(KeyStoreError, match="trial"):
        require_handshake(context, chain_pem=pki.device("prod:d2").write(tmp_path, "d2")[0].read_text())

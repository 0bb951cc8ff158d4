"""The fakes of other people's devices, judged by the clients that their makers publish."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from nrfcredstore.command_interface import (
    ATCommandInterface,
    CredentialCommandInterface,
    NrfCloudCredShellInterface,
    TLSCredShellInterface,
)
from nrfcredstore.comms import Comms
from nrfcredstore.credstore import CredStore, CredType
from serial import Serial

from fleet.attest.nordic import Identity, Token
from fleet.station.drivers import nrf91_at, zephyr_shell
from fleet.station.drivers.credentials import credentials_of
from tests.vendors.bench import Bench
from tests.vendors.line import Unit, at_pty
from tests.vendors.modem import Modem
from tests.vendors.shell import AtShell, NcsShell, Shell

TAG = 42
_POINT = (Encoding.X962, PublicFormat.UncompressedPoint)
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"


class PtyComms(Comms):
    """Nordic's own reading and writing, on a pty, which has no USB serial number to be found by."""

    def __init__(self, port: str) -> None:
        self.timeout = 1
        self.line_ending = "\r\n"
        self.jlink_api = None
        self.serial_api = Serial(port, 115200, timeout=self.timeout)
        self.write = self._write_serial
        self.read_line = self._readline_serial
        self.reset_input_buffer = self.serial_api.reset_input_buffer


@contextmanager
def comms(unit: Unit) -> Iterator[PtyComms]:
    with at_pty(unit) as port:
        client = PtyComms(port)
        try:
            yield client
        finally:
            client.close()


@pytest.mark.parametrize("is_shell", [False, True])
def test_nordics_client_takes_the_fake_for_a_modem(is_shell: bool) -> None:
    modem = Modem()
    with comms(AtShell(modem=modem) if is_shell else modem) as line:
        client = ATCommandInterface(line)
        client.detect_shell_mode()
        assert client.shell is is_shell
        client.enable_error_codes()
        store = CredStore(client)
        assert store.func_mode(4)
        assert client.get_imei() == modem.imei
        assert Identity.read(Token.parse(client.get_attestation_token())).uuid == str(modem.uuid)
        csr = io.BytesIO()
        csr.close = lambda: None  # type: ignore[method-assign]  # the client closes what it was given
        store.keygen(TAG, csr, "CN=d1")
        assert x509.load_der_x509_csr(csr.getvalue()).is_signature_valid
        store.write(TAG, CredType.CLIENT_CERT, io.StringIO(PEM))
        held, digest = client.check_credential_exists(TAG, CredType.CLIENT_CERT.value)
        assert (held, digest) == (True, client.calculate_expected_hash(PEM))
        assert {one.type for one in store.list(TAG)} == {CredType.CLIENT_CERT, CredType.CLIENT_KEY}
        store.delete(TAG, CredType.CLIENT_KEY)
        assert modem.keys == {}


def test_nordics_client_takes_the_fake_for_a_shell_with_keys_of_its_own() -> None:
    unit = NcsShell()
    with comms(unit) as line:
        client = NrfCloudCredShellInterface(line)
        assert client.generate_key(TAG)
        csr = x509.load_der_x509_csr(base64.b64decode(client.get_csr(TAG, "CN=d1")))
        assert csr.is_signature_valid
        assert client.get_pubkey(TAG) == csr.public_key().public_bytes(*_POINT)
        _write_and_check(client, unit)
        assert client.delete_credential(TAG, CredType.CLIENT_KEY.value)
        assert unit.keys == {}


def test_nordics_client_takes_the_fake_for_zephyrs_shell() -> None:
    unit = Shell()
    with comms(unit) as line:
        _write_and_check(TLSCredShellInterface(line), unit)


def _write_and_check(client: CredentialCommandInterface, unit: Shell) -> None:
    assert client.write_credential(TAG, CredType.CLIENT_CERT.value, PEM)
    assert unit.stored[TAG, "SERV"] == PEM.encode() + b"\0"
    held, digest = client.check_credential_exists(TAG, CredType.CLIENT_CERT.value)
    assert (held, digest) == (True, client.calculate_expected_hash(PEM))
    assert client.delete_credential(TAG, CredType.CLIENT_CERT.value)
    assert unit.stored == {}


async def test_nordics_client_finds_what_our_driver_has_written(tmp_path: Path) -> None:
    modem = Modem()
    bench = Bench(path=tmp_path / "l.db", unit=modem, make=lambda console: nrf91_at.Nrf91(console, tag=TAG))
    await bench.visit()
    package = (await bench.ledger_unit(str(modem.uuid))).generations[-1].package
    assert package is not None
    with comms(modem) as line:
        client = ATCommandInterface(line)
        for kind, pem in ((0, credentials_of(package).servers), (1, credentials_of(package).chain)):
            assert client.check_credential_exists(TAG, kind) == (True, client.calculate_expected_hash(pem))


def test_our_digest_of_a_credential_is_nordics() -> None:
    assert zephyr_shell.digest(PEM) == TLSCredShellInterface(None).calculate_expected_hash(PEM)

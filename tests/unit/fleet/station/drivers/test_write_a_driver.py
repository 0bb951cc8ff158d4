"""The example of the how-to "write a driver", taken from the page and run against a lamp."""

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from fleet.station.drivers.console import Console
from fleet.station.drivers.course import Device
from fleet.station.link.causes import Cause
from fleet.station.link.steps import Step
from tests.factory_floor import make_csr
from tests.vendors.bench import Bench

PAGE = Path(__file__).parents[5] / "docs/how-to/write-a-driver.md"


@pytest.fixture(scope="module")
def lamp_driver() -> Callable[[Console], Device]:
    """The class on the page."""
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {}
    exec(compile(code, str(PAGE), "exec"), names)  # our own page
    found = names["AcmeLamp"]
    assert callable(found)
    return found


@dataclass
class Lamp:
    """What the page says of lamps. Key and certificate are in flash, pieces in memory."""

    serial: str = "lamp-7"
    key: ec.EllipticCurvePrivateKey | None = None
    csr: bytes = b""
    installed: str = ""
    signs: ec.EllipticCurvePrivateKey | None = None
    _pieces: str = ""
    _coming: str = ""

    def power_cycle(self) -> None:
        self._pieces = self._coming = ""

    def feed(self, octets: bytes) -> bytes:
        self._coming += octets.decode()
        said = ""
        while "\n" in self._coming:
            line, _, self._coming = self._coming.partition("\n")
            said += self._answer(line.strip()) + "\r\n"
        return said.encode()

    def _answer(self, line: str) -> str:
        match line.split():
            case ["WHO"]:
                return f"OK {self.serial} {self._fingerprint()}"
            case ["KEY", device_id]:
                return f"OK {base64.b64encode(self._request(device_id)).decode()}"
            case ["PUT", offset, piece]:
                self._pieces = self._pieces[: int(offset)] + piece
                return "OK"
            case ["USE"]:
                self.installed, self._pieces = base64.b64decode(self._pieces).decode(), ""
                return "OK"
            case ["SIGN", nonce] if self.key:
                message = sha256(bytes.fromhex(nonce)).digest()
                signature = (self.signs or self.key).sign(message, ec.ECDSA(hashes.SHA256()))
                return f"OK {base64.b64encode(signature).decode()}"
            case _:
                return "NO"

    def _request(self, device_id: str) -> bytes:
        if self.key is None:
            self.key = ec.generate_private_key(ec.SECP256R1())
            self.csr = make_csr(self.key, device_id)
        return self.csr

    def _fingerprint(self) -> str:
        if not self.installed:
            return "-"
        leaf = x509.load_pem_x509_certificate(self.installed.encode())
        return leaf.fingerprint(hashes.SHA256()).hex()


def bench(path: Path, lamp: Lamp, driver: Callable[[Console], Device]) -> Bench:
    return Bench(path=path / "ledger.db", unit=lamp, make=driver)


async def test_the_example_makes_a_lamp_once(
    tmp_path: Path, lamp_driver: Callable[[Console], Device]
) -> None:
    line = bench(tmp_path, Lamp(), lamp_driver)
    for _ in range(2):
        assert (await line.visit()).step is Step.COMMITTED
    await line.assert_one_is_live("lamp-7")
    assert len(line.enroller.made) == 1


async def test_the_example_survives_a_cut_at_each_exchange(
    tmp_path: Path, lamp_driver: Callable[[Console], Device]
) -> None:
    whole = bench(tmp_path, Lamp(), lamp_driver)
    await whole.visit()
    for at in range(1, whole.exchanges + 1, 3):
        folder = tmp_path / str(at)
        folder.mkdir()
        line = bench(folder, Lamp(), lamp_driver)
        await line.cut(at, before=bool(at % 2))
        assert (await line.visit()).step is Step.COMMITTED
        assert len(line.enroller.made) == 1


async def test_the_example_finds_a_lamp_with_another_key(
    tmp_path: Path, lamp_driver: Callable[[Console], Device]
) -> None:
    end = await bench(tmp_path, Lamp(signs=ec.generate_private_key(ec.SECP256R1())), lamp_driver).visit()
    assert (end.step, end.cause) == (Step.QUARANTINED, Cause.WRONG_PROOF)

"""SoftHSM tokens for tests: one folder a test session, since the module reads its place once a start."""

import ctypes
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import pkcs11
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from device_agent.keys import cryptoki, token_kinds
from device_agent.keys.cryptoki import Attribute, Session, Template
from device_agent.keys.kinds import KeyKind
from device_agent.keys.tls_key import PublicKey
from device_agent.keys.token_access import PRIVATE, PUBLIC, TokenAccess
from device_agent.keys.uri import PIV_SLOTS, parse_token_uri
from tests.pki import key_pem
from tests.power import Disk, Unsynced

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
PIN = "123456"


@dataclass(frozen=True, kw_only=True)
class SoftToken:
    """One token, with a file that holds its PIN."""

    label: str
    pin_file: Path
    folder: Path
    """Where the token is."""

    @property
    def uri(self) -> str:
        return f"pkcs11:token={quote(self.label)}?module-path={MODULE}&pin-source=file:{self.pin_file}"

    def import_key(self, key: ec.EllipticCurvePrivateKey, *, label: str, key_id: bytes) -> None:
        """Put a key into the token that was made elsewhere."""
        file = self.pin_file.with_suffix(".key")
        file.write_bytes(key_pem(key))
        names = ("--token", self.label, "--label", label, "--id", key_id.hex())
        command = ["softhsm2-util", "--import", str(file), *names, "--pin", PIN]
        subprocess.run(command, check=True, capture_output=True)

    def make_piv_key(self, slot: str, *, rsa: bool = False) -> PublicKey:
        """Make a key as the tool of a PIV token does: known by its slot's CKA_ID alone."""
        uri = replace(parse_token_uri(self.uri), object="piv")
        recipe, public = token_kinds.recipe(KeyKind.RSA if rsa else KeyKind.P256)
        both: Template = {Attribute.TOKEN: True, Attribute.ID: bytes((PIV_SLOTS.index(slot) + 1,))}
        inside = {Attribute.PRIVATE: True, Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}

        def make(session: Session) -> PublicKey:
            for kind in (PUBLIC, PRIVATE):
                for old in session.find({Attribute.CLASS: kind, Attribute.ID: both[Attribute.ID]}):
                    session.destroy(old)
            made, _ = session.generate(
                recipe,
                public={**both, **public, Attribute.VERIFY: True},
                private={**both, **inside, Attribute.SIGN: True},
            )
            return token_kinds.read_public(session, made)

        return TokenAccess(uri, refused_pins=self.pin_file.with_suffix(".refused")).within(make)

    def restore(self, image: Path) -> None:
        """Make the token what it was when its folder was copied to `image`."""
        shutil.rmtree(self.folder)
        shutil.copytree(image, self.folder)

    def pull(self) -> None:
        self.folder.rename(self._pulled)

    def put_back(self) -> None:
        self._pulled.rename(self.folder)

    @property
    def _pulled(self) -> Path:
        return self.folder.parents[1] / f"pulled-{self.folder.name}"


def cut_with(patch: pytest.MonkeyPatch, disk: Disk) -> None:
    """Have the calls that change a token be steps of a disk, so that power can be cut in each of them.

    What is cut is not done, or is done and its answer lost; of a pair of keys, one may have been made.
    """
    module = cryptoki.load(MODULE)
    functions = dict(module._functions)

    def changing(name: str) -> Callable[..., int]:
        def called(*arguments: object) -> int:
            fate = disk.dies_next
            if fate in (Unsynced.KEPT, Unsynced.MIXED):
                functions[name](*arguments)
            if fate is Unsynced.MIXED and name == "C_GenerateKeyPair":
                functions["C_DestroyObject"](arguments[0], _handle(arguments[6 + disk.calls % 2]))
            disk.step()
            return functions[name](*arguments)

        return called

    cut = {name: changing(name) for name in ("C_GenerateKeyPair", "C_DestroyObject")}
    patch.setattr(module, "_functions", {**functions, **cut})


def _handle(pointer: object) -> int:
    """Return the handle that a `byref` leads to."""
    return ctypes.cast(pointer, ctypes.POINTER(ctypes.c_ulong))[0]


@dataclass(frozen=True, kw_only=True)
class SoftHsm:
    """A folder of tokens."""

    folder: Path

    @classmethod
    @contextmanager
    def at(cls, folder: Path) -> Iterator["SoftHsm"]:
        """Make the folder, and let this process and its children find it."""
        (folder / "tokens").mkdir(parents=True)
        config = folder / "softhsm2.conf"
        config.write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SOFTHSM2_CONF", str(config))
            # Tests have both of our bindings in one process: this one must be the first that starts a module.
            pkcs11.lib(MODULE)
            yield cls(folder=folder)

    def token(self, *, label: str = "") -> SoftToken:
        """Make a token with a name of its own, unless told otherwise."""
        label = label or f"t-{uuid.uuid4().hex[:12]}"
        before = set(self._folders())
        command = [
            "softhsm2-util",
            "--init-token",
            "--free",
            "--label",
            label,
            "--pin",
            PIN,
            "--so-pin",
            "12345678",
        ]
        subprocess.run(command, check=True, capture_output=True)
        (folder,) = set(self._folders()) - before
        pin_file = self.folder / f"{label}.pin"
        pin_file.touch(mode=0o600)
        pin_file.write_text(f"{PIN}\n")
        return SoftToken(label=label, pin_file=pin_file, folder=folder)

    def _folders(self) -> Iterator[Path]:
        return (self.folder / "tokens").iterdir()

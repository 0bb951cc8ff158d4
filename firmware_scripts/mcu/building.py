"""Builds the firmware with cargo, outside the source tree: what cargo writes must not end up in it."""

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

TARGET = "thumbv7em-none-eabi"
"""Cortex-M4 and M7 without a floating point unit."""
SOURCE = Path(__file__).with_name("firmware")

_COPIED = ("Cargo.toml", "build.rs", "memory.x", "src", "examples")


_NOT_HAD = "failed to download"
"""What cargo says where it reaches no registry; it says other things of pins that are wrong."""


class BuildError(Exception):
    """The firmware cannot be built; the text says what cargo said."""


class UnavailableError(BuildError):
    """This machine has no Rust for the part, or no way to the crates; the text says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """A folder outside the tree, in which cargo works; what it has built stays for the next time."""

    folder: Path

    @property
    def crate(self) -> Path:
        """A copy of the sources, with cargo's lock file beside it."""
        return self.folder / "crate"

    def build(self) -> Path:
        """Return the firmware as ELF; raises `BuildError`."""
        self.require()
        self.run("build", "--release", "--features", "board", "--target", TARGET)
        return self.folder / "target" / TARGET / "release" / "fleet-mcu"

    def require(self) -> None:
        """Check that the firmware can be built here; raises `UnavailableError` with what to do."""
        require_target()
        try:
            self.run("fetch", "--target", TARGET)
        except BuildError as error:
            if _NOT_HAD in str(error):
                raise UnavailableError("the crates of the firmware cannot be downloaded") from error
            raise

    def run(self, *words: str) -> str:
        """Run cargo on a fresh copy of the sources; return what it printed; raises `BuildError`."""
        self._copy()
        done = subprocess.run(
            [_program("cargo"), *words],
            cwd=self.crate,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise BuildError(f"cargo {words[0]} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def _copy(self) -> None:
        """Bring the copy up to date; a file that is the same keeps its time, or all is built anew.

        Others may build here at the same time: no file is ever half written.
        """
        self.crate.mkdir(parents=True, exist_ok=True)
        wanted = {path.relative_to(SOURCE) for name in _COPIED for path in _files(SOURCE / name)}
        for path in {one.relative_to(self.crate) for name in _COPIED for one in _files(self.crate / name)}:
            if path not in wanted:
                (self.crate / path).unlink(missing_ok=True)
        for path in wanted:
            source, copy = SOURCE / path, self.crate / path
            if not copy.is_file() or _digest(source) != _digest(copy):
                copy.parent.mkdir(parents=True, exist_ok=True)
                whole = copy.with_name(f".{copy.name}.{os.getpid()}")
                shutil.copyfile(source, whole)
                whole.replace(copy)

    def _environment(self) -> dict[str, str]:
        home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
        # Paths of this machine must not decide what the firmware is.
        maps = f"--remap-path-prefix={self.crate}=firmware --remap-path-prefix={home}=cargo"
        return {**os.environ, "CARGO_TARGET_DIR": str(self.folder / "target"), "RUSTFLAGS": maps}


def default_workshop() -> Workshop:
    """Return the workshop in this user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Workshop(folder=cache / "fleet-mcu")


def require_target() -> None:
    """Check that Rust can build for the part; raises `UnavailableError` with what to do."""
    done = subprocess.run(
        [_program("rustc"), "--print", "target-libdir", "--target", TARGET],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 or not list(Path(done.stdout.strip()).glob("libcore-*.rlib")):
        raise UnavailableError(f"Rust has no library for {TARGET}: rustup target add {TARGET}")


def text_bytes(elf: Path) -> int:
    """Return how much flash the firmware takes: code, constants and vectors.

    Sections of an ELF file (System V ABI 4) that are loaded and hold octets.
    """
    octets = elf.read_bytes()
    table = int.from_bytes(octets[32:36], "little")
    size, count = (int.from_bytes(octets[at : at + 2], "little") for at in (46, 48))
    total = 0
    for at in range(table, table + size * count, size):
        kind, flags, _address, _offset, length = (
            int.from_bytes(octets[at + place : at + place + 4], "little") for place in (4, 8, 12, 16, 20)
        )
        total += length if kind == _PROGBITS and flags & _ALLOCATED else 0
    return total


_PROGBITS = 1
_ALLOCATED = 2


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise UnavailableError(f"{name} is not installed: see rustup.rs, or apt-get install cargo")
    return found


def _files(path: Path) -> list[Path]:
    found = [path] if path.is_file() else path.rglob("*")
    return [one for one in found if one.is_file() and not one.name.startswith(".")]


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()

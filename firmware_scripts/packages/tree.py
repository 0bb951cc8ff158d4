"""What every package of the agent holds: its modules, dated, and the libraries in pure Python.

cryptography is compiled: it stays the system's own, with its security updates. aiomqtt and paho-mqtt are not;
they come along at the versions of `requirements.lock`, because no distribution has had both for long.
"""

import re
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

from firmware_scripts.packages.dated_build import dated

ROOT = Path(__file__).parents[2]
VENDORED = ("aiomqtt", "paho-mqtt")
_RELEASED = "device_agent/released.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file of a package; `path` has no leading slash."""

    path: str
    content: bytes
    mode: int = 0o644

    def write(self, root: Path) -> None:
        """Write it below a folder, with its mode whatever the umask."""
        target = root / self.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(self.content)
        target.chmod(self.mode)


def agent_files(moment: int) -> list[File]:
    """Return the modules of the agent, dated."""
    found = (
        path for path in (ROOT / "device_agent").rglob("*") if path.suffix == ".py" or path.name == "py.typed"
    )
    files = [File(path=str(path.relative_to(ROOT)), content=path.read_bytes()) for path in sorted(found)]
    return [_dated(file, moment) if file.path == _RELEASED else file for file in files]


def vendored_files() -> list[File]:
    """Return the modules of the libraries in pure Python, with their licences.

    Raises:
        ValueError: what is installed is not what `requirements.lock` names, or is not pure Python.
    """
    return [file for name in VENDORED for file in _files_of(_locked(name))]


def _dated(file: File, moment: int) -> File:
    return replace(file, content=dated(file.content.decode(), moment).encode())


def _locked(name: str) -> Distribution:
    wanted = re.search(rf"^{name}==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    try:
        found = distribution(name)
    except PackageNotFoundError:
        found = None
    if wanted is None or found is None or found.version != wanted[1]:
        raise ValueError(
            f"{name} {wanted[1] if wanted else '?'} of requirements.lock is not what is installed here"
        )
    return found


def _files_of(library: Distribution) -> list[File]:
    paths = sorted(library.files or [], key=str)
    if any(path.suffix == ".so" for path in paths):
        raise ValueError(f"{library.name} is not pure Python")
    placed = ((path, _place(path, library.name)) for path in paths)
    return [
        File(path=place, content=Path(str(path.locate())).read_bytes()) for path, place in placed if place
    ]


def _place(path: PurePosixPath, library: str) -> str:
    """Return where a file goes: modules where they are imported from, licences aside, the rest nowhere."""
    if "licenses" in path.parts:
        return f"licences/{library}/{path.name}"
    return str(path) if path.suffix == ".py" or path.name == "py.typed" else ""

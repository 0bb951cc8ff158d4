"""Keys and certificates that are replaced together: one step, after which both are the new ones.

A renewed pair stands in a folder of its own beside the files, `.<name>/<generation>/`; `current` names the
one in force, and the files' own paths lead there. Whoever is killed at any write leaves a pair that fits.
"""

import os
import secrets
import shutil
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fleet.files import PUBLIC_MODE, SECRET_MODE, make_folder, sync_folder, telling, write_file
from fleet.home import KeyPairFiles

_CURRENT = "current"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a file is to hold, and with which mode."""

    data: bytes = field(repr=False)
    mode: int = SECRET_MODE


def pair_content(files: KeyPairFiles, *, key_pem: bytes, certificate_pem: str) -> dict[Path, Content]:
    """Return what `switch` takes for a key (0600) and its certificate with chain (0644)."""
    return {
        files.key: Content(data=key_pem),
        files.certificate: Content(data=certificate_pem.encode(), mode=PUBLIC_MODE),
    }


def in_force(files: KeyPairFiles) -> KeyPairFiles:
    """Return where both files really are, of one generation, whatever is switched from now on."""
    generations = _generations(files.certificate)
    try:
        current = generations / os.readlink(generations / _CURRENT)  # noqa: PTH115 - a Path would join it
    except OSError:
        return files
    return KeyPairFiles(
        certificate=current / files.certificate.name if _leads(files.certificate) else files.certificate,
        key=current / files.key.name if _leads(files.key, files.certificate) else files.key,
    )


def place_of(path: Path) -> Path:
    """Return the folder beside which a file stands, of whatever generation it is."""
    generations = path.parent.parent
    return generations.parent if generations.name == f".{path.stem}" else path.parent


def switch(contents: Mapping[Path, Content], *, named: Path) -> None:
    """Replace files that belong together, in one step; the folder is called after `named`, one of them.

    What stands there already stays in force, whole, until that step.

    Raises:
        StorageFullError, FleetError: the earlier content is in force.
    """
    generations = _generations(named)
    with telling(named):
        make_folder(generations)
        present = {path: _present(path) for path in contents if path.exists()}
        if not all(_leads(path, named) for path in contents):
            _point(generations, _write(generations, present))
            for path in present:
                _link(path, _target(path, named))
        _point(generations, _write(generations, contents))
        for path in contents.keys() - present.keys():
            _link(path, _target(path, named))
        _forget_others(generations)


def _generations(named: Path) -> Path:
    return named.parent / f".{named.stem}"


def _target(path: Path, named: Path) -> Path:
    return Path(os.path.relpath(_generations(named) / _CURRENT / path.name, path.parent))


def _leads(path: Path, named: Path | None = None) -> bool:
    """Say whether a file's path leads to the generation in force."""
    return path.is_symlink() and path.readlink() == _target(path, named or path)


def _present(path: Path) -> Content:
    return Content(data=path.read_bytes(), mode=stat.S_IMODE(path.stat().st_mode))


def _write(generations: Path, contents: Mapping[Path, Content]) -> str:
    """Write a new generation, durably, and return its name."""
    folder = generations / secrets.token_hex(8)
    make_folder(folder)
    for path, content in contents.items():
        write_file(folder / path.name, content.data, mode=content.mode)
    sync_folder(generations)
    return folder.name


def _point(generations: Path, name: str) -> None:
    """The one step."""
    _link(generations / _CURRENT, Path(name))


def _link(place: Path, target: Path) -> None:
    temporary = place.parent / f".{place.name}.{secrets.token_hex(8)}"
    temporary.symlink_to(target)
    temporary.replace(place)
    sync_folder(place.parent)


def _forget_others(generations: Path) -> None:
    """Destroy the keys that were replaced, and what a crash has left."""
    current = (generations / _CURRENT).readlink().name
    for folder in generations.iterdir():
        if folder.name not in {current, _CURRENT}:
            with suppress(OSError):
                shutil.rmtree(folder) if folder.is_dir() else folder.unlink()

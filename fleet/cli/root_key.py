"""Where a root's key is at hand: its folder in the home or on a disk that was brought, and its passphrase.

The passphrase comes from a file, from the home while it is still there, or from a prompt; never from the
command line.
"""

import getpass
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from device_agent.wire.secret import Secret
from fleet.cli.options import Place
from fleet.errors import UsageError
from fleet.files import read_secret
from fleet.home import AuthorityFiles, open_home
from fleet.terminal import can_ask

_Function = TypeVar("_Function", bound=Callable[..., None])


def options(function: _Function) -> _Function:
    """Give a command that needs a root's key its --root and --passphrase-file."""
    root = click.option(
        "--root",
        "root_folder",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Folder with the root's ca.crt and ca.key [the home's].",
    )
    file = click.option(
        "--passphrase-file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Holds the passphrase of the root keys [the home's, while it is there; else asked for].",
    )
    return root(file(function))


def folder_of(place: Place, named: Path | None, folder: str) -> AuthorityFiles:
    """Return the files of a root: those in the folder that was named, or the home's by its folder there.

    Raises:
        UsageError: the server is elsewhere, and no folder was named.
    """
    if named is not None:
        return AuthorityFiles(folder=named)
    if isinstance(place, Path):
        return open_home(place).authority_files(folder)
    raise UsageError("the root's key is not on the server", hint="--root DIR names the folder that holds it")


def opener(place: Place, file: Path | None, files: AuthorityFiles) -> Secret | None:
    """Return what opens a root's key: its passphrase, or None where the key is in a token that has a PIN.

    Raises:
        FleetError: as `passphrase`.
    """
    return None if files.token.exists() else passphrase(place, file)


def passphrase(place: Place, file: Path | None) -> Secret:
    """Return what opens the root's key.

    Raises:
        NotFoundError, BadInputError: the file is not there, or not safe.
        UsageError: there is none, and no terminal to ask on.
    """
    if file is not None:
        return read_secret(file)
    if isinstance(place, Path) and (kept := open_home(place).root_passphrase).exists():
        return read_secret(kept)
    if not can_ask():
        raise UsageError("the root's key needs its passphrase", hint="--passphrase-file FILE")
    return Secret(getpass.getpass("passphrase of the root keys: "))

"""A new issuing CA, first step: its key is made, and a CA above is asked to certify it.

What follows may happen on another machine, and much later. Until then nothing signs and nothing is trusted.
"""

import asyncio
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from device_agent.wire.token_uri import TokenUri
from fleet.ca.hierarchy import BOOTSTRAP_REALM, FLEET_REALM
from fleet.ca.issuer import key_id_of
from fleet.ca.requesting import authority_csr
from fleet.ca.signers import PrivateKey, make_authority_key
from fleet.ca.token_key import builder_key
from fleet.core.authority import (
    LABEL_RANDOMNESS,
    AuthorityRecord,
    AuthorityState,
    KeyKind,
    issuing_name,
    key_label,
)
from fleet.core.goodkey import KeyType
from fleet.errors import BadInputError
from fleet.files import FOLDER_MODE, PUBLIC_MODE, make_folder, sync_folder, telling, write_file
from fleet.home import AuthorityFiles
from fleet.model import Purpose
from fleet.ports import Transaction
from fleet.ra.authority_changes import Change, entry
from fleet.ra.context import Context
from fleet.ra.devices import require_domain
from fleet.store import audit
from fleet.store.authorities import insert_authority, list_authorities

_KEY_FILE_RANDOMNESS = 32
_PARTIAL = re.compile(r"\.[a-z]+-[0-9]+\.[0-9a-f]{16}\.partial")
_PURPOSES_OF_OURS = {
    FLEET_REALM: frozenset({Purpose.SERVER, Purpose.SERVICE, Purpose.OPERATOR, Purpose.STATION}),
    BOOTSTRAP_REALM: frozenset({Purpose.CLAIM}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityOrder:
    """An issuing CA that is wanted."""

    realm: str
    """A domain, `bootstrap` or `fleet`."""
    purpose: Purpose
    actor: str
    room: int | None = None
    """How many leaves at most it should have at a time."""
    token: TokenUri | None = None
    """The token that its key is to be made in; None: a file in the home."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requested:
    """A CA that waits for its certificate."""

    record: AuthorityRecord
    csr_pem: str
    common_name: str


async def request_authority(context: Context, order: AuthorityOrder) -> Requested:
    """Make the key of a new issuing CA, and the request for its certificate.

    Raises:
        BadInputError: no such CA belongs into that realm.
        NotFoundError: there is no such domain.
        FleetError: the key cannot be made or kept.
    """
    _check(context, order)
    async with context.in_force.changing:
        known = await context.store.read(list_authorities, None)
        requested = await asyncio.to_thread(_make, context, order, known)
        await context.store.write(_record, (requested.record, order.actor))
    return requested


async def pending_request(context: Context, record: AuthorityRecord) -> str:
    """Return the request of a CA that waits for its certificate, PEM. Raises `FleetError`."""
    path = context.home.authority_files(record.folder).request
    with telling(path):
        return path.read_text("ascii")


def _check(context: Context, order: AuthorityOrder) -> None:
    if order.realm not in _PURPOSES_OF_OURS:
        require_domain(context, order.realm)
    allowed = _PURPOSES_OF_OURS.get(order.realm, frozenset({Purpose.DEVICE}))
    if order.purpose not in allowed:
        raise BadInputError(
            f"{order.realm} has no issuing CA for {order.purpose} certificates",
            hint=f"it has them for {', '.join(sorted(allowed))}",
        )
    if order.room is not None and order.room < 1:
        raise BadInputError("a CA needs room for one leaf at least", hint="such as --room 100000")


def _make(context: Context, order: AuthorityOrder, known: Sequence[AuthorityRecord]) -> Requested:
    realm = context.home.ca / order.realm
    _sweep(realm)
    now = context.clock().replace(microsecond=0)
    folder = next_name(context, order, known)
    with context.in_force.keys.tokens.or_none(), _new_folder(context.home.ca / folder) as files:
        label = key_label(folder, fleet=context.fleet, randomness=context.randomness(LABEL_RANDOMNESS))
        key = _make_key(context, order, files, label=label)
        record = _record_of(order, folder, issuer=key_id_of(key.public_key()), now=now)
        common_name = issuing_name(record, fleet=context.fleet)
        csr_pem = authority_csr(key, common_name, fleet=context.fleet)
        write_file(files.request, csr_pem.encode(), mode=PUBLIC_MODE)
    return Requested(record=record, csr_pem=csr_pem, common_name=common_name)


def _record_of(order: AuthorityOrder, folder: str, *, issuer: str, now: datetime) -> AuthorityRecord:
    return AuthorityRecord(
        folder=folder,
        issuer=issuer,
        realm=order.realm,
        purpose=order.purpose,
        state=AuthorityState.REQUESTED,
        key=KeyKind.FILE if order.token is None else KeyKind.TOKEN,
        room=order.room,
        added_at=now,
        changed_at=now,
    )


def _make_key(context: Context, order: AuthorityOrder, files: AuthorityFiles, *, label: str) -> PrivateKey:
    """Make the key where it is to stay, and return it as builders take it."""
    domain, keys = context.config.domain(order.realm), context.in_force.keys
    key_type = KeyType.P256 if domain is None else domain.ca_key
    if order.token is not None:
        return builder_key(keys.tokens.make(files.token, order.token, label=label, key_type=key_type))
    key = make_authority_key(key_type)
    write_file(files.ca.key, keys.seal(key, randomness=context.randomness(_KEY_FILE_RANDOMNESS)))
    return key


def next_name(context: Context, order: AuthorityOrder, known: Sequence[AuthorityRecord]) -> str:
    """Return a name that no CA of this kind has had: a folder without a record counts too."""
    names = [record.folder.rpartition("/")[2] for record in known if record.realm == order.realm]
    names += [path.name for path in (context.home.ca / order.realm).iterdir()]
    taken = [name.removeprefix(f"{order.purpose}-") for name in names if name.startswith(f"{order.purpose}-")]
    number = 1 + max((int(number) for number in taken if number.isdecimal()), default=0)
    return f"{order.realm}/{order.purpose}-{number}"


@contextmanager
def _new_folder(place: Path) -> Iterator[AuthorityFiles]:
    """Make a folder that is there whole, with all its files on the disk, or not at all."""
    staged = place.parent / f".{place.name}.{secrets.token_hex(8)}.partial"
    with telling(place):
        staged.mkdir(mode=FOLDER_MODE)
        try:
            yield AuthorityFiles(folder=staged)
            sync_folder(staged)
            staged.rename(place)
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
        sync_folder(place.parent)


def _sweep(realm: Path) -> None:
    """Remove what requests left that were cut off; whatever has got its name is left alone, record or not."""
    make_folder(realm)
    for path in realm.iterdir():
        if _PARTIAL.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


async def _record(tx: Transaction, asked: tuple[AuthorityRecord, str]) -> None:
    record, actor = asked
    await insert_authority(tx, record)
    what = Change(name=record.folder, actor=actor, at=record.added_at)
    await audit.append(tx, entry(record, "authority.requested", what))

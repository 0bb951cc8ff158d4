"""`fleet ca drill`: a backup is made, restored beside the home, and put to the test; nothing of it is left.

What it restores is opened by the same code as a server's start, signs with every key, and is compared with
the records that it was made of. What it signs is never delivered, and on no record.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from cryptography import x509

from device_agent.wire.identity import Identity
from fleet.ca import backup as archive
from fleet.ca.auditkey import load_audit_verifier
from fleet.ca.hierarchy import Authority
from fleet.ca.issuer import Issuer
from fleet.ca.shares import Quorum
from fleet.ca.signers import is_signed, make_key
from fleet.core.authority import ADMITTED, ISSUES
from fleet.core.profile import DEFAULT_PROFILES, device_applicant
from fleet.core.serial import SERIAL_RANDOMNESS, new_serial
from fleet.errors import FleetError, NeedsAttentionError
from fleet.home import Home
from fleet.model import Purpose
from fleet.ports import Clock, Store
from fleet.ra.keeping.backup import Backup, BackupOrder, make_backup, new_backup_id
from fleet.ra.keeping.restore import Restored, RestoreOrder, restore
from fleet.scratch import scratch
from fleet.store import verification
from fleet.store.copying import take_inventory
from fleet.store.verification import Verification

QUORUM = Quorum(needed=2, count=3)
_CHANGED = frozenset(
    {"allowlist_changes", "answers", "audit_details", "audit_entries", "audit_heads", "audit_peaks", "meta"}
)
"""Tables whose rows a restore adds to or drops."""
_TEST_LIFETIME = timedelta(hours=1)
_TEST_NAME = "drill"
_MESSAGE = b"fleet-drill-v1\n"


class Opened(Protocol):
    """A home that was opened as a server opens it: every key answers."""

    @property
    def store(self) -> Store: ...

    @property
    def authority(self) -> Authority: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillOrder:
    """A home, and what the drill needs from outside."""

    home: Home
    clock: Clock
    randomness: Callable[[int], bytes]
    open_home: Callable[[Home], AbstractAsyncContextManager[Opened]]
    export: Callable[[Path, int], None]
    """Writes the audit trail from an entry on to a file, as `fleet audit export` prints it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that was tried."""

    step: str
    ok: bool
    text: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillReport:
    """What a drill found; the steps after one that failed were not tried."""

    backup_id: str
    steps: tuple[Step, ...]

    @property
    def passed(self) -> bool:
        return all(step.ok for step in self.steps)


async def drill(order: DrillOrder) -> DrillReport:
    """Back a home up, restore it beside itself, and try what came of it; what fails is a step that failed."""
    record = _Record()
    backup_id = new_backup_id(order.randomness)
    try:
        with scratch(order.home.run / "drill") as folder:
            await _try_all(order, record, folder, backup_id)
    except _StoppedError:
        pass  # the record tells why
    return DrillReport(backup_id=backup_id, steps=tuple(record.steps))


class _StoppedError(Exception):
    """A step failed: those after it cannot be tried."""


@dataclass(slots=True)
class _Record:
    steps: list[Step] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """Try something; what the body says of it is told."""
        words: list[str] = []
        began = time.monotonic()
        try:
            yield words.append
        except FleetError as error:
            self._add(name, str(error), ok=False, began=began)
            raise _StoppedError from error
        self._add(name, ", ".join(words), ok=True, began=began)

    def _add(self, name: str, text: str, *, ok: bool, began: float) -> None:
        self.steps.append(Step(step=name, ok=ok, text=text, seconds=time.monotonic() - began))


async def _try_all(order: DrillOrder, record: _Record, folder: Path, backup_id: str) -> None:
    with record.step("back up") as told:
        wanted = BackupOrder(
            backup_id=backup_id, quorum=QUORUM, now=order.clock(), randomness=order.randomness
        )
        made = make_backup(order.home, wanted, out=folder / "drill.backup")
        told(f"{len(made.manifest.files)} files in {made.path.stat().st_size} octets, shares {QUORUM}")
    with record.step("check the file") as told:
        _check(made, order.home)
        told("whole, and signed by the audit key")
    with record.step("restore") as told:
        trail = folder / "trail.jsonl"
        await asyncio.to_thread(order.export, trail, made.header.audit_size - 1)
        restored = await restore(_restore_order(made, trail, folder), clock=order.clock)
        told(_restored_words(restored))
    with record.step("compare the records") as told:
        told(_compare(made, Home(restored.home)))
    with record.step("start it") as told:
        async with order.open_home(Home(restored.home)) as opened:
            told(_sign_with_all(opened.authority, order))
            told(await _verify_trail(opened.store, Home(restored.home), made))


def _check(made: Backup, home: Home) -> None:
    with made.path.open("rb") as file:
        checked = archive.check(file)
    if not load_audit_verifier(home.audit_public_key)(checked.signature, checked.message()):
        raise NeedsAttentionError("the backup is not signed by the audit key of this home")


def _restore_order(made: Backup, trail: Path, folder: Path) -> RestoreOrder:
    """Restore with as few shares as are said to be enough, and not the first ones."""
    shares = made.key.shares[-QUORUM.needed :]
    return RestoreOrder(archive=made.path, shares=shares, into=folder / "home", trail=trail, actor="server")


def _restored_words(restored: Restored) -> str:
    added = 0 if restored.trail is None else restored.trail.added
    return f"by {QUORUM.needed} shares, {added} later entries of the trail done again"


def _compare(made: Backup, home: Home) -> str:
    """Compare what was restored with what was backed up; counters must have moved on."""
    before, after = made.manifest.rows, take_inventory(home.database).rows
    wrong = sorted(name for name in before if name not in _CHANGED and after.get(name, 0) < before[name])
    if wrong:
        raise NeedsAttentionError(f"rows are missing in {', '.join(wrong)}", hint="keep the backup, and look")
    return f"{before['certificates']} certificates, {before['devices']} devices, none missing"


def _sign_with_all(authority: Authority, order: DrillOrder) -> str:
    """Sign with every issuing key, and a leaf with each that signs for devices."""
    issuers = [one for one in authority.issuers if one.state in ADMITTED]
    for issuer in issuers:
        if not is_signed(issuer.public_key, issuer.signer.sign(_MESSAGE), _MESSAGE):
            raise NeedsAttentionError(f"the key of CA {issuer.issuer_id} does not sign")
    leaves = [one for one in issuers if one.purpose is Purpose.DEVICE and one.state in ISSUES]
    for issuer in leaves:
        _sign_leaf(issuer, authority, order)
    return f"{len(issuers)} issuing keys sign, {len(leaves)} test leaves are good"


def _sign_leaf(issuer: Issuer, authority: Authority, order: DrillOrder) -> None:
    now = order.clock()
    identity = Identity(domain=issuer.domain, device_id=_TEST_NAME)
    template = DEFAULT_PROFILES[Purpose.DEVICE].template(
        device_applicant(identity, fleet=authority.fleet),
        make_key().public_key(),
        now=now,
        issuer=issuer.facts("http://localhost"),
        lifetime=_TEST_LIFETIME,
    )
    serial = new_serial(now=now, randomness=order.randomness(SERIAL_RANDOMNESS))
    leaf = x509.load_der_x509_certificate(issuer.issue(template, serial=serial).der)
    chain = [leaf, issuer.certificate, *issuer.chain]
    anchor = next(root for root in authority.roots if root.anchor == issuer.anchor)
    for below, above in pairwise([*chain, anchor.certificate]):
        below.verify_directly_issued_by(above)


async def _verify_trail(store: Store, home: Home, made: Backup) -> str:
    is_ours = load_audit_verifier(home.audit_public_key)
    verdict = await store.read(verification.verify, Verification(log=made.manifest.fleet, is_signed=is_ours))
    if not verdict.is_whole or verdict.size < made.manifest.audit_size:
        raise NeedsAttentionError("the audit trail of the restored home is not whole")
    return f"{verdict.size} entries of the trail are whole"

"""`fleet ca restore`: a home from a backup and its shares, brought up to date by the trail kept elsewhere.

The home appears whole, or not at all. With the trail, whatever was revoked, suspended or issued after the
backup is so again, and that is checked; without it the home is frozen until somebody has looked. A home that
would not start is not made.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from device_agent.wire.fields import time_text
from device_agent.wire.secret import Secret
from fleet.ca.auditkey import load_audit_signer, load_audit_verifier
from fleet.core import trace
from fleet.core.merkle import Frontier
from fleet.errors import BadInputError, NeedsAttentionError
from fleet.files import make_folder, open_input
from fleet.home import Home
from fleet.model import AuditEntry, CertificateState
from fleet.new_home import new_home
from fleet.ports import Clock, Store, Transaction
from fleet.ra.authority.authority_records import known_authorities
from fleet.ra.authority.root_lists import lists_behind
from fleet.ra.gap import WITHOUT_TRAIL, open_gap
from fleet.ra.keeping.backup_manifest import Manifest
from fleet.ra.keeping.kept_trail import KeptTrail, Proof, entries_after, prove
from fleet.ra.keeping.replay import Replayed, replay
from fleet.ra.keeping.replay_acts import details_of
from fleet.ra.keeping.replay_rollouts import RESTORED
from fleet.ra.keeping.restore_files import require_whole, unpack
from fleet.ra.keeping.restore_succession import Settling, Succession, require_opens, settle
from fleet.ra.succession.compromise import Loss
from fleet.ra.trail_lines import KeptEntry
from fleet.store import audit, restoring, rollouts, verification
from fleet.store.copying import take_inventory
from fleet.store.seal import AuditSeal
from fleet.store.sqlite import open_store
from fleet.store.verification import Verification

_FEWEST_LEAPT = 1_000_000
_MAKE_CODES = ("code.created", "device.replaced")
_LEAPT_EACH_SECOND = 4
"""No issuer makes more than two lists a second, and no broker's list changes more often in the long run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOrder:
    """What is restored, to where, and what proves its latest past."""

    archive: Path
    shares: Sequence[Secret]
    into: Path
    trail: Path | None
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was restored, and how far it is proven."""

    home: Path
    manifest: Manifest
    trail: KeptTrail | None
    done: Mapping[str, int]
    """Acts after the backup that were done again, by kind."""
    strange: Mapping[str, int]
    """Acts after the backup that cannot be done again by what the trail holds, by kind: look at each."""
    serials: int
    """How many certificates the trail names, each of which is on record."""
    revoked: int
    """How many of them it revokes, each of which is revoked."""
    codes_lost: int
    """One-time codes that work no more: those made after the backup, whose hashes no trail holds; or,
    without a trail, all that nobody had used, for somebody may have since."""
    succession: Succession
    lists_behind: tuple[str, ...]
    """Roots whose list does not name all that is revoked: whoever has their keys must sign another."""

    @property
    def is_proven(self) -> bool:
        return self.trail is not None and not self.strange


async def restore(order: RestoreOrder, *, clock: Clock) -> Restored:
    """Make a home of a backup.

    Raises:
        RefusedError: the place is taken, or the kept trail is not one that carries on the backup's.
        BadInputError: backup, shares or trail are damaged, or do not belong together.
        NeedsAttentionError: what the trail says does not stand in the restored records, or the home
            would not start.
    """
    with open_input(order.archive) as file, new_home(order.into) as home:
        manifest = unpack(file, order.shares, home)
        require_whole(home, manifest)
        make_folder(home.run)
        seal = AuditSeal(
            log=manifest.fleet, sign=load_audit_signer(home.audit_key), clock=clock, head_file=home.audit_head
        )
        async with open_store(home.database, seal=seal) as store:
            return await _bring_up_to_date(store, home, manifest, order, now=clock())


async def _bring_up_to_date(
    store: Store, home: Home, manifest: Manifest, order: RestoreOrder, *, now: datetime
) -> Restored:
    against = Verification(log=manifest.fleet, is_signed=load_audit_verifier(home.audit_public_key))
    await _require_whole_trail(store, against)
    tally, trail, succession = _Tally(), None, Succession()
    before = await known_authorities(store, home, now=now)
    if order.trail is None:
        await store.write(open_gap, time_text(manifest.made_at))
        codes = await store.write(restoring.close_unused_codes, now)
    else:
        base = take_inventory(home.database).trail
        trail = await _follow_trail(store, order.trail, base, against, tally)
        codes = sum(tally.done[action] for action in _MAKE_CODES)
        succession = await settle(
            store,
            Settling(
                home=home,
                fleet=manifest.fleet,
                before=before,
                compromised=frozenset(tally.compromised),
                actor=order.actor,
                at=now.replace(microsecond=0),
            ),
        )
    authority = await require_opens(store, home)
    await store.write(restoring.drop_answers, None)
    await store.write(rollouts.halt_all, RESTORED)
    await store.write(restoring.leap, _leap(manifest.made_at, now))
    restored = Restored(
        home=order.into,
        manifest=manifest,
        trail=trail,
        done=tally.done,
        strange=tally.strange,
        serials=len(tally.serials),
        revoked=len(tally.revoked),
        codes_lost=codes,
        succession=succession,
        lists_behind=await lists_behind(store, authority, now=now),
    )
    await store.write(audit.append, _entry(restored, order.actor, now))
    return restored


async def _follow_trail(
    store: Store, path: Path, base: Frontier, against: Verification, tally: "_Tally"
) -> KeptTrail:
    """Do again what a kept trail tells, and prove by its own words that it was done."""
    proof = Proof(base=base, log=against.log, is_signed=against.is_signed)
    trail = await prove(store, path, proof)
    await _replay_all(store, trail, tally)
    await _require_nothing_undone(store, tally)
    await _require_whole_trail(store, against)
    return trail


@dataclass(slots=True, kw_only=True)
class _Tally:
    """What the trail claims of the records, gathered on the way."""

    done: Counter[str] = field(default_factory=Counter)
    strange: Counter[str] = field(default_factory=Counter)
    serials: set[str] = field(default_factory=set)
    revoked: set[str] = field(default_factory=set)
    retired: set[tuple[str, str]] = field(default_factory=set)
    compromised: set[str] = field(default_factory=set)
    """Issuer ids of CAs."""

    def take(self, kept: KeptEntry) -> None:
        """Read a claim from the words of an entry, by another way than the one that does it again."""
        entry = kept.entry
        if entry.serial and entry.action.startswith("certificate."):
            self.serials.add(entry.serial)
        if entry.serial and entry.action == "certificate.revoked":
            self.revoked.add(entry.serial)
        if entry.action == "device.retired":
            self.retired.add((entry.domain, entry.device_id))
        told = details_of(entry)
        if entry.action.startswith("authority.") and told.get("loss") == Loss.COMPROMISED.value:
            self.compromised.add(told["issuer"])
        for name, value in entry.details:
            if name == trace.DETAIL:
                states = trace.states(value)
                self.serials |= states.keys()
                self.revoked |= {one for one, state in states.items() if state is CertificateState.REVOKED}


async def _replay_all(store: Store, trail: KeptTrail, tally: _Tally) -> None:
    size = trail.base
    for batch in entries_after(trail):
        size += len(batch)
        is_last = size == trail.head.head.size
        found = await store.write(_replay_batch, _Batch(entries=batch, trail=trail if is_last else None))
        tally.done.update(found.done)
        tally.strange.update(found.strange)
        for kept in batch:
            tally.take(kept)
    if size != trail.head.head.size:
        raise BadInputError(f"{trail.path} changed while it was read", hint="run it again")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    entries: Sequence[KeptEntry]
    trail: KeptTrail | None
    """With the last entries: its head is kept as it was signed."""


async def _replay_batch(tx: Transaction, batch: _Batch) -> Replayed:
    found = await replay(tx, batch.entries)
    if batch.trail is not None:
        await audit.save_head(tx, batch.trail.head)
    return found


async def _require_nothing_undone(store: Store, tally: _Tally) -> None:
    claimed = restoring.Claimed(
        serials=sorted(tally.serials), revoked=sorted(tally.revoked), retired=sorted(tally.retired)
    )
    lacking = await store.read(restoring.missing, claimed)
    if lacking:
        raise NeedsAttentionError(
            f"the restored records do not bear out the trail: {lacking[0]}, and {len(lacking) - 1} more",
            hint="report this as a defect; nothing was restored",
        )


async def _require_whole_trail(store: Store, against: Verification) -> None:
    verdict = await store.read(verification.verify, against)
    if not verdict.is_whole:
        finding = verdict.findings[0]
        raise NeedsAttentionError(
            f"the audit trail in the backup was changed: entry {finding.first} is {finding.text}",
            hint="restore another backup",
        )


def _leap(made_at: datetime, now: datetime) -> restoring.Leap:
    """Return how far counters must move, so that no number that was given out meanwhile comes again."""
    by = _FEWEST_LEAPT + _LEAPT_EACH_SECOND * max(0, int((now - made_at).total_seconds()))
    return restoring.Leap(by=by, lists_from=int(now.timestamp() * 1000))


def _entry(restored: Restored, actor: str, now: datetime) -> AuditEntry:
    trail = restored.trail
    details = (
        ("backup", restored.manifest.backup_id),
        ("made_at", time_text(restored.manifest.made_at)),
        ("trail", WITHOUT_TRAIL if trail is None else f"{trail.added} entries done again"),
    )
    return AuditEntry(at=now, action="fleet.restored", actor=actor, details=details)

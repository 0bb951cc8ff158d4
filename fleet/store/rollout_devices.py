"""The devices of rollouts: page by page, each by an index, so that a large wave is never read whole.

Whatever else is written of a device stirs it here, in the same commit: nobody has to look for what changed.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import Identity
from fleet.core.query import Condition
from fleet.core.rollout import DeviceState
from fleet.core.rollout_device import DeviceFacts
from fleet.core.rollout_plan import place_of
from fleet.ports import Row, Transaction, Value
from fleet.store import columns, times
from fleet.store.groups import asked_groups
from fleet.store.rollouts import move_counts
from fleet.store.search import Sql, where

DEVICE = (
    " JOIN devices d ON d.domain = r.domain AND d.device_id = r.device_id"
    " LEFT JOIN certificates c ON c.serial = d.current_serial"
)
"""What a row of a rollout is joined with."""

_LIVE = "('told', 'failed', 'absent')"

_TOLD_ONCE = (
    DeviceState.TOLD,
    DeviceState.UPDATED,
    DeviceState.FAILED,
    DeviceState.ABSENT,
    DeviceState.OUT,
)

_OUT_OF_SERVICE = """CASE
    WHEN d.retired_at IS NOT NULL THEN 'retired'
    WHEN d.revoked = 1 THEN 'revoked'
    WHEN d.suspended = 1 THEN 'suspended'
    WHEN d.alarm > 0 OR d.code_conflict = 1 THEN 'alarmed'
    WHEN d.current_serial IS NULL THEN 'without a certificate'
    ELSE ''
END"""
_FACTS = (
    "SELECT r.domain, r.device_id, r.wave, r.state, r.told_at, r.serial, r.was, r.trouble,"
    f" {_OUT_OF_SERVICE}, d.current_serial, c.state, c.profile, c.issuer, d.last_seen_at, d.profile,"
    " COALESCE(h.own_version, 0), COALESCE(h.server_version, 0), COALESCE(g.held, 0),"
    " EXISTS (SELECT 1 FROM certificates n WHERE n.domain = r.domain AND n.device_id = r.device_id"
    " AND n.purpose = 'device' AND n.fingerprint IS NOT NULL AND n.serial > r.serial), r.reason"
    f" FROM rollout_devices r{DEVICE}"
    " LEFT JOIN trust_held h ON h.domain = r.domain AND h.device_id = r.device_id"
    " LEFT JOIN device_configurations g ON g.domain = r.domain AND g.device_id = r.device_id"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutDevice:
    """One device of a rollout."""

    identity: Identity
    wave: int
    facts: DeviceFacts
    reason: str = ""
    """Why it stands where it stands."""
    profile: str = ""
    """Of its own, by our records."""
    own_version: int = 0
    """Of its domain's trust bundle, as it says."""
    server_version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """Devices that a draft gets."""

    rollout: int
    salt: str
    identities: tuple[Identity, ...]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Devices of a draft that are in no wave yet, the first by their place, go into one; at most so many."""

    rollout: int
    wave: int
    limit: int
    condition: Condition | None = None
    """Only devices that fulfil it."""
    now: datetime | None = None
    """What durations of the condition count from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Devices of a rollout, after one of them; of a wave, where one is named."""

    rollout: int
    wave: int = 0
    state: DeviceState | None = None
    after: tuple[str, str] = ("", "")
    limit: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue:
    """Devices of a rollout that were told before a time, and have not answered."""

    rollout: int
    before: datetime
    limit: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What became of a device."""

    identity: Identity
    wave: int
    before: DeviceState
    after: DeviceState
    reason: str = ""
    serial: str | None = None
    """Its current certificate, where it is told now."""
    was: str = ""


async def add_members(tx: Transaction, members: Members) -> None:
    """Write devices of a draft, in no wave yet; those that are there already stay as they are."""
    await tx.execute_many(
        "INSERT INTO rollout_devices (rollout, domain, device_id, wave, state, place, changed_at)"
        " VALUES (?, ?, ?, 0, 'waiting', ?, ?) ON CONFLICT (rollout, domain, device_id) DO NOTHING",
        [
            (members.rollout, *_key(identity), place_of(identity, members.salt), times.text(members.at))
            for identity in members.identities
        ],
    )


async def drop_members(tx: Transaction, page: Page) -> int:
    """Forget a page of the devices of a draft; return how many. Those of a rollout that was saved stay."""
    return await tx.execute(
        "DELETE FROM rollout_devices WHERE (rollout, domain, device_id) IN"
        " (SELECT r.rollout, r.domain, r.device_id FROM rollout_devices r"
        " JOIN rollouts x ON x.number = r.rollout WHERE r.rollout = ? AND x.state = 'drafted' LIMIT ?)",
        (page.rollout, page.limit),
    )


async def assign(tx: Transaction, wanted: Assignment) -> int:
    """Put devices into a wave; return how many."""
    source, found = "rollout_devices r", Sql(text="1 = 1")
    if wanted.condition is not None:
        source += DEVICE
        found = where(await asked_groups(tx, wanted.condition), now=wanted.now)
    count = await tx.execute(
        "UPDATE rollout_devices SET wave = ? WHERE rollout = ? AND (domain, device_id) IN"
        f" (SELECT r.domain, r.device_id FROM {source} WHERE r.rollout = ? AND r.wave = 0"
        f" AND r.state = 'waiting' AND ({found.text}) ORDER BY r.place LIMIT ?)",
        (wanted.wave, wanted.rollout, wanted.rollout, *found.values, wanted.limit),
    )
    moved: dict[tuple[DeviceState | None, DeviceState], int] = {(None, DeviceState.WAITING): count}
    await move_counts(tx, wanted.rollout, wanted.wave, moved)
    return count


async def in_turn(tx: Transaction, page: Page) -> tuple[RolloutDevice, ...]:
    """Return the devices of a wave whose turn is next, by their places."""
    rows = await tx.fetch_all(
        f"{_FACTS} WHERE r.rollout = ? AND r.wave = ? AND r.state = 'waiting' ORDER BY r.place LIMIT ?",
        (page.rollout, page.wave, page.limit),
    )
    return tuple(_device(row) for row in rows)


async def stirred(tx: Transaction, page: Page) -> tuple[RolloutDevice, ...]:
    """Return devices of which something became known."""
    rows = await tx.fetch_all(
        f"{_FACTS} WHERE r.rollout = ? AND r.stirred = 1 ORDER BY r.domain, r.device_id LIMIT ?",
        (page.rollout, page.limit),
    )
    return tuple(_device(row) for row in rows)


async def overdue(tx: Transaction, asked: Overdue) -> tuple[RolloutDevice, ...]:
    """Return devices that have not answered in time, those first that were told first."""
    rows = await tx.fetch_all(
        f"{_FACTS} WHERE r.rollout = ? AND r.state = 'told' AND r.told_at <= ? ORDER BY r.told_at LIMIT ?",
        (asked.rollout, times.text(asked.before), asked.limit),
    )
    return tuple(_device(row) for row in rows)


async def list_members(tx: Transaction, page: Page) -> tuple[RolloutDevice, ...]:
    """Return a page of the devices of a rollout, by domain and id."""
    wave, state = page.wave, "" if page.state is None else page.state.value
    rows = await tx.fetch_all(
        f"{_FACTS} WHERE r.rollout = ? AND (? = 0 OR r.wave = ?) AND ? IN ('', r.state)"
        " AND (r.domain, r.device_id) > (?, ?) ORDER BY r.domain, r.device_id LIMIT ?",
        (page.rollout, wave, wave, state, *page.after, page.limit),
    )
    return tuple(_device(row) for row in rows)


async def to_undo(tx: Transaction, page: Page) -> tuple[RolloutDevice, ...]:
    """Return devices that were told, and not yet told to go back; state by state, as their index has them."""
    rows: list[Row] = []
    for state in _TOLD_ONCE:
        rows += await tx.fetch_all(
            f"{_FACTS} WHERE r.rollout = ? AND r.state = ? AND r.told_at IS NOT NULL"
            " ORDER BY r.domain, r.device_id LIMIT ?",
            (page.rollout, state.value, page.limit - len(rows)),
        )
    return tuple(_device(row) for row in rows)


async def save_moves(tx: Transaction, rollout: int, moves: Sequence[Moved], *, at: datetime) -> None:
    """Write what became of devices, and count it with their waves; who was heard is stirred no more."""
    told_at = times.text(at)
    await tx.execute_many(
        "UPDATE rollout_devices SET state = ?, reason = ?, changed_at = ?, stirred = 0,"
        " serial = COALESCE(?, serial), was = CASE WHEN ? IS NULL THEN was ELSE ? END,"
        " told_at = CASE WHEN ? IS NULL THEN told_at ELSE ? END"
        " WHERE rollout = ? AND domain = ? AND device_id = ?",
        [
            (
                *(one.after.value, one.reason, told_at, one.serial, one.serial, one.was),
                *(one.serial, told_at, rollout, *_key(one.identity)),
            )
            for one in moves
        ],
    )
    for wave in sorted({one.wave for one in moves}):
        counted = Counter[tuple[DeviceState | None, DeviceState]](
            (one.before, one.after) for one in moves if one.wave == wave
        )
        await move_counts(tx, rollout, wave, counted)


async def calm(tx: Transaction, rollout: int, identities: Sequence[Identity]) -> None:
    """Note that devices were looked at, and nothing new was found."""
    await tx.execute_many(
        "UPDATE rollout_devices SET stirred = 0 WHERE rollout = ? AND domain = ? AND device_id = ?",
        [(rollout, *_key(identity)) for identity in identities],
    )


async def stir(tx: Transaction, identity: Identity) -> None:
    """Have a device looked at that some rollout waits for: what is known of it changes in this commit."""
    await tx.execute(
        f"UPDATE rollout_devices SET stirred = 1 WHERE domain = ? AND device_id = ? AND state IN {_LIVE}",
        _key(identity),
    )


async def note_trouble(tx: Transaction, identity: Identity, trouble: str) -> None:
    """Keep what a device that was told has come to grief with."""
    await tx.execute(
        "UPDATE rollout_devices SET trouble = ?, stirred = 1"
        " WHERE domain = ? AND device_id = ? AND state IN ('told', 'absent')",
        (trouble, *_key(identity)),
    )


async def stirs(tx: Transaction, identity: Identity) -> bool:
    """Tell whether some rollout waits for a device."""
    found = await tx.fetch_one(
        f"SELECT 1 FROM rollout_devices WHERE domain = ? AND device_id = ? AND state IN {_LIVE} LIMIT 1",
        _key(identity),
    )
    return found is not None


def _device(row: Row) -> RolloutDevice:
    state, held_by_word = columns.optional_text(row[10]), columns.number(row[17])
    return RolloutDevice(
        identity=Identity(domain=columns.text(row[0]), device_id=columns.text(row[1])),
        wave=columns.number(row[2]),
        reason=columns.text(row[19]),
        facts=DeviceFacts(
            state=DeviceState(columns.text(row[3])),
            told_at=times.optional_moment(row[4]),
            baseline=columns.text(row[5]),
            was=columns.text(row[6]),
            trouble=columns.text(row[7]),
            out_of_service=columns.text(row[8]),
            serial=columns.optional_text(row[9]) or "",
            is_active=state == "active",
            profile=columns.optional_text(row[11]) or "",
            issuer=columns.optional_text(row[12]) or "",
            seen_at=times.optional_moment(row[13]),
            held=held_by_word,
            has_asked=columns.flag(row[18]),
        ),
        profile=columns.text(row[14]),
        own_version=columns.number(row[15]),
        server_version=columns.number(row[16]),
    )


def _key(identity: Identity) -> tuple[Value, Value]:
    return (identity.domain, identity.device_id)

"""Acts that wait for a second operator, with the devices that each was shown to be about."""

import json
import zlib
from dataclasses import dataclass
from datetime import datetime

from fleet.core.proposal import ActKind, ProposalState
from fleet.errors import StoreError
from fleet.model import Role
from fleet.ports import Row, Transaction, Value
from fleet.store import columns, times

_COLUMNS = (
    "proposal, kind, state, role, proposed_by, selection, parameters, reason, because, devices, total,"
    " digest, names, proposed_at, expires_at, decided_by, decided_at, outcome"
)
_WITHOUT_NAMES = _COLUMNS.replace(" names,", " NULL,")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalRecord:
    """A row of `proposals`."""

    proposal: str
    kind: ActKind
    state: ProposalState = ProposalState.OPEN
    role: Role
    proposed_by: str
    selection: str
    parameters: tuple[tuple[str, str], ...] = ()
    reason: str = ""
    because: str
    total: int
    digest: str
    devices: int
    """How many were shown; once approved, how many it is done to."""
    names: tuple[str, ...] = ()
    """Of those devices, `DOMAIN:ID`, in order; lists leave them out."""
    proposed_at: datetime
    expires_at: datetime
    decided_by: str | None = None
    decided_at: datetime | None = None
    outcome: str = ""

    def parameter(self, name: str) -> str:
        """Return a parameter of the act, or the empty text."""
        return dict(self.parameters).get(name, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalQuery:
    """Which proposals to list; None does not restrict."""

    state: ProposalState | None = None
    after: str = ""
    limit: int = 100


async def insert_proposal(tx: Transaction, record: ProposalRecord) -> None:
    """Add a proposal."""
    marks = ", ".join("?" * len(_COLUMNS.split(",")))
    await tx.execute(f"INSERT INTO proposals ({_COLUMNS}) VALUES ({marks})", _values(record))


async def load_proposal(tx: Transaction, proposal: str) -> ProposalRecord | None:
    """Return a proposal by its id."""
    row = await tx.fetch_one(f"SELECT {_COLUMNS} FROM proposals WHERE proposal = ?", (proposal,))
    return None if row is None else _record(row)


async def list_proposals(tx: Transaction, query: ProposalQuery) -> tuple[ProposalRecord, ...]:
    """Return a page of proposals, without names, by id; ids begin with the time: the oldest comes first."""
    conditions, values = ["proposal > ?"], [query.after]
    if query.state is not None:
        conditions.append("state = ?")
        values.append(query.state.value)
    rows = await tx.fetch_all(
        f"SELECT {_WITHOUT_NAMES} FROM proposals WHERE {' AND '.join(conditions)} ORDER BY proposal LIMIT ?",
        (*values, query.limit),
    )
    return tuple(_record(row) for row in rows)


async def same_proposal(tx: Transaction, wanted: ProposalRecord) -> ProposalRecord | None:
    """Return the open proposal of the same person for the same act on the same devices."""
    row = await tx.fetch_one(
        f"SELECT {_COLUMNS} FROM proposals WHERE state = ? AND kind = ? AND proposed_by = ?"
        " AND digest = ? AND parameters = ? AND expires_at > ?",
        (
            ProposalState.OPEN.value,
            wanted.kind.value,
            wanted.proposed_by,
            wanted.digest,
            _text(wanted.parameters),
            times.text(wanted.proposed_at),
        ),
    )
    return None if row is None else _record(row)


async def count_open(tx: Transaction, proposed_by: str) -> int:
    """Return how many proposals of somebody wait."""
    row = await tx.fetch_one(
        "SELECT COUNT(*) FROM proposals WHERE state = ? AND proposed_by = ?",
        (ProposalState.OPEN.value, proposed_by),
    )
    return 0 if row is None else columns.number(row[0])


async def overdue(tx: Transaction, now: datetime) -> tuple[str, ...]:
    """Return the ids of the open proposals whose time is over; what else they hold is not looked at."""
    rows = await tx.fetch_all(
        "SELECT proposal FROM proposals WHERE state = ? AND expires_at <= ? ORDER BY proposal",
        (ProposalState.OPEN.value, times.text(now)),
    )
    return tuple(columns.text(proposal) for (proposal,) in rows)


async def save_decision(tx: Transaction, record: ProposalRecord) -> None:
    """Save where a proposal stands now, by whom, and what came of it."""
    await tx.execute(
        "UPDATE proposals SET state = ?, decided_by = ?, decided_at = ?, outcome = ? WHERE proposal = ?",
        (
            record.state.value,
            record.decided_by,
            times.optional_text(record.decided_at),
            record.outcome,
            record.proposal,
        ),
    )


async def narrow(tx: Transaction, record: ProposalRecord) -> None:
    """Save to which devices a proposal is done."""
    await tx.execute(
        "UPDATE proposals SET devices = ?, names = ? WHERE proposal = ?",
        (record.devices, _packed(record.names), record.proposal),
    )


async def count_devices(tx: Transaction, domains: frozenset[str]) -> int:
    """Return how many devices of some domains are in service."""
    marks = ", ".join("?" * len(domains))
    row = await tx.fetch_one(
        f"SELECT COUNT(*) FROM devices WHERE retired_at IS NULL AND domain IN ({marks})",
        tuple(sorted(domains)),
    )
    return 0 if row is None else columns.number(row[0])


def _text(parameters: tuple[tuple[str, str], ...]) -> str:
    return json.dumps(dict(sorted(parameters)))


def _parameters(text: str) -> tuple[tuple[str, str], ...]:
    """Return the parameters that our own store wrote; whatever text they hold, empty ones too."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise StoreError("the parameters of a proposal are damaged", hint="propose the act anew")
    return tuple(sorted((str(name), str(value)) for name, value in found.items()))


def _values(record: ProposalRecord) -> tuple[Value, ...]:
    return (
        record.proposal,
        record.kind.value,
        record.state.value,
        record.role.value,
        record.proposed_by,
        record.selection,
        _text(record.parameters),
        record.reason,
        record.because,
        record.devices,
        record.total,
        record.digest,
        _packed(record.names),
        times.text(record.proposed_at),
        times.text(record.expires_at),
        record.decided_by,
        times.optional_text(record.decided_at),
        record.outcome,
    )


def _packed(names: tuple[str, ...]) -> bytes:
    return zlib.compress("\n".join(names).encode())


def _names(packed: bytes | None, count: int) -> tuple[str, ...]:
    """Return the names behind the bytes of a column; none where it was not read."""
    if packed is None or not count:
        return ()
    try:
        names = tuple(zlib.decompress(packed).decode().split("\n"))
    except (zlib.error, UnicodeDecodeError) as error:
        raise StoreError("the names of a proposal are damaged", hint="propose the act anew") from error
    if len(names) != count:
        raise StoreError("a proposal has lost some of its names", hint="propose the act anew")
    return names


def _record(row: Row) -> ProposalRecord:
    return ProposalRecord(
        proposal=columns.text(row[0]),
        kind=ActKind(columns.text(row[1])),
        state=ProposalState(columns.text(row[2])),
        role=Role(columns.text(row[3])),
        proposed_by=columns.text(row[4]),
        selection=columns.text(row[5]),
        parameters=_parameters(columns.text(row[6])),
        reason=columns.text(row[7]),
        because=columns.text(row[8]),
        total=columns.number(row[10]),
        digest=columns.text(row[11]),
        devices=columns.number(row[9]),
        names=_names(columns.optional_octets(row[12]), columns.number(row[9])),
        proposed_at=times.moment(row[13]),
        expires_at=times.moment(row[14]),
        decided_by=columns.optional_text(row[15]),
        decided_at=times.optional_moment(row[16]),
        outcome=columns.text(row[17]),
    )

"""What a device is, told to people and programs in the same words."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from device_agent.core import renewal
from device_agent.core.certificates import lifetime, load, read_bundle
from device_agent.core.clock import Moment
from device_agent.core.ladder import Rung, need_of
from device_agent.core.lifecycle import state_of
from device_agent.core.record import Anchor
from device_agent.core.stored import StoredRecord
from device_agent.core.tally import Tally
from device_agent.trouble import Trouble, failing_step
from device_agent.wire.fields import time_text
from device_agent.wire.identity import parse_name
from device_agent.wire.trust import FLEET_REALM


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One screen of it. Times are RFC 3339; None where there is nothing to tell."""

    enrolled: bool
    state: str
    running: bool
    connected: bool
    device_id: str | None
    domain: str | None
    name: str | None
    serial: str | None
    key: str | None
    key_hash: str | None
    not_before: str | None
    not_after: str | None
    expired: bool
    renew_at: str | None
    pending: bool
    broker: str | None
    est: str | None
    """The EST server by which certificates come, where they do."""
    anchors: tuple[str, ...]
    problem: str | None
    """What is wrong, in one word: the server's problem codes, and words of our own where it has none."""
    problem_step: str | None
    """Which step fails, by the name that server and CLI have for it."""
    problem_since: str | None
    problem_text: str | None
    """What is wrong, and where."""
    problem_hint: str | None
    """What to do."""
    rung: str
    """Of the ladder of recovery: `certificate` while nothing is needed."""
    rung_since: str | None
    rung_why: str | None
    needs: str | None
    """What brings a working certificate back."""
    time: str
    """What is believed."""
    time_source: str
    """`system`, `signed`, `elapsed` or `floor`."""
    time_since: str
    """The last good moment that the time is reckoned from."""
    time_floor: str
    counters: Mapping[str, object] | None
    """What was counted since the state folder was begun."""

    def members(self) -> dict[str, object]:
        """Return the members of `status --json`."""
        return asdict(self)


def status_of(
    record: StoredRecord,
    *,
    moment: Moment,
    running: bool = False,
    connected: bool = False,
    problem: str | None = None,
    trouble: Trouble | None = None,
    tally: Tally | None = None,
) -> Status:
    """Return the status that a record shows, with what a running agent adds."""
    active, standing = record.life.active, record.standing
    identity = None if active is None else parse_name(active.broker.name)
    return Status(
        enrolled=active is not None,
        state=state_of(record.life).value,
        running=running,
        connected=connected,
        device_id=identity.device_id if identity else record.device_id or None,
        domain=identity.domain if identity else record.domain,
        name=identity.name if identity else None,
        serial=active.serial if active else None,
        key=active.key if active else None,
        key_hash=active.key_hash if active else None,
        not_before=time_text(active.not_before) if active else None,
        not_after=time_text(active.not_after) if active else None,
        expired=active is not None and moment.now > active.not_after,
        renew_at=time_text(renewal.renewal_of(active)) if active else None,
        pending=record.life.pending is not None,
        broker=f"{active.broker.host}:{active.broker.port}" if active and active.has_broker else None,
        est=None if record.est is None else str(record.est),
        anchors=tuple(anchor.fingerprint for anchor in record.life.anchors),
        problem=problem,
        problem_step=failing_step(problem) if problem else None,
        problem_since=time_text(trouble.since) if trouble else None,
        problem_text=trouble.text if trouble else None,
        problem_hint=trouble.hint if trouble else None,
        rung=Rung.CERTIFICATE.value if standing is None else standing.rung.value,
        rung_since=time_text(standing.since) if standing else None,
        rung_why=standing.why if standing else None,
        needs=needs_of(record),
        time=time_text(moment.now),
        time_source=moment.source.value,
        time_since=time_text(moment.since),
        time_floor=time_text(moment.floor),
        counters=None if tally is None else tally.members(),
    )


def needs_of(record: StoredRecord) -> str | None:
    """Return what a device on the ladder of recovery needs, None where it stands on the ground."""
    active, standing = record.life.active, record.standing
    if active is None or standing is None:
        return None
    identity = parse_name(active.broker.name)
    return need_of(standing, domain=identity.domain, device_id=identity.device_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownAnchor:
    """A root that is believed; `fingerprint` is the hex SHA-256 of its DER."""

    fingerprint: str
    name: str
    not_after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownTrust:
    """The anchors of one realm: its bundle's version, 0 before the first, since when, and by whom."""

    realm: str
    servers: bool
    """Servers and stations are trusted by these; else they are for the device's own certificates."""
    version: int
    since: str | None
    source: str | None
    anchors: tuple[ShownAnchor, ...]


def trust_of(record: StoredRecord) -> tuple[ShownTrust, ...]:
    """Return what a device trusts, realm by realm."""
    realms = ([] if record.domain is None else [record.domain]) + [FLEET_REALM]
    return tuple(_shown(record, realm) for realm in realms)


def trust_members(realms: tuple[ShownTrust, ...]) -> dict[str, object]:
    """Return the members of `trust --json`."""
    return {"realms": [asdict(realm) for realm in realms]}


def _shown(record: StoredRecord, realm: str) -> ShownTrust:
    held = record.held(realm)
    return ShownTrust(
        realm=realm,
        servers=realm == FLEET_REALM,
        version=0 if held is None else held.version,
        since=None if held is None else time_text(held.since),
        source=None if held is None else held.source.value,
        anchors=tuple(map(_shown_anchor, record.anchors_in(realm))),
    )


def _shown_anchor(anchor: Anchor) -> ShownAnchor:
    certificate = load(read_bundle(anchor.pem, most=1)[0])
    return ShownAnchor(
        fingerprint=anchor.fingerprint,
        name=certificate.subject.rfc4514_string(),
        not_after=time_text(lifetime(certificate)[1]),
    )

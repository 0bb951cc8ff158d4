"""Tells the story of a device: each decision as it stands in the audit trail, and what helps now."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from device_agent.wire.identity import Identity
from fleet.core.way_back import HardwareWay, Rung, next_rung
from fleet.model import Alarm, Standing
from fleet.ports import Transaction
from fleet.ra.desk import Desk
from fleet.ra.devices import DeviceView, unknown, view_of
from fleet.store import audit, contacts, waiting
from fleet.store.audit import AuditQuery, StoredEntry
from fleet.store.codes import GrantKind
from fleet.store.contacts import ContactQuery, StoredContact
from fleet.store.waiting import Waiting

_LONGEST_STORY = 1000
_CONTACTS = 20
_EXPIRED = "its certificate has expired"
_HARDWARE = frozenset({GrantKind.IDEVID, GrantKind.TPM, GrantKind.PIV})


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A device's story, oldest entry first; `view` is None for one that asked and was never registered.

    `verdict` says where it stands, `advice` what to do, empty where nothing is to be done.
    """

    identity: Identity
    view: DeviceView | None
    waiting: tuple[Waiting, ...]
    entries: tuple[StoredEntry, ...]
    contacts: tuple[StoredContact, ...]
    """Its last connections and refusals, the newest first."""
    verdict: str
    advice: str


async def explain(desk: Desk, identity: Identity) -> Story:
    """Return the story of a device.

    Raises:
        NotFoundError: nobody has ever heard of it.
    """
    story = await desk.store.read(story_of, identity)
    if story.view is None or story.verdict != _EXPIRED:
        return story
    return replace(story, advice=_way_back(story.view, desk.config.policy.hardware_returns))


def _way_back(view: DeviceView, way: HardwareWay) -> str:
    """Return the rung of the ladder that helps a device whose certificate has ended."""
    identity = view.device.identity
    by_code = (
        f"fleet claim create --domain {identity.domain} --device {identity.device_id},"
        " then on the device: device-agent recover"
    )
    has_hardware = any(proof.kind in _HARDWARE for proof in view.proofs)
    match next_rung(view.device, way, has_hardware=has_hardware):
        case Rung.OLD_KEY:
            return f"it renews by itself within the grace time; after it: {by_code}"
        case Rung.HARDWARE:
            return f"on the device: device-agent recover --hardware; where its hardware is gone: {by_code}"
        case _:
            return by_code


async def story_of(tx: Transaction, identity: Identity) -> Story:
    """Return the story of a device, as of one moment; raises `NotFoundError`."""
    view = await view_of(tx, identity)
    requests = await waiting.of_device(tx, identity)
    domain, device_id = identity.domain, identity.device_id
    query = AuditQuery(domain=domain, device_id=device_id, nobodys=True, limit=_LONGEST_STORY)
    entries = await audit.search_newest(tx, query)
    seen = await contacts.search(tx, ContactQuery(domain=domain, device_id=device_id, limit=_CONTACTS))
    if view is None and not requests and not entries:
        raise unknown(identity)
    verdict, advice = _judgement(identity, view, requests)
    return Story(
        identity=identity,
        view=view,
        waiting=requests,
        entries=entries,
        contacts=seen,
        verdict=verdict,
        advice=advice,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """A case of trouble: how it is known, what it means, what helps. `{id}` and `{domain}` are filled in."""

    is_it: Callable[[DeviceView], bool]
    verdict: str
    advice: str


# The first that fits is told, the gravest first.
_CASES: tuple[_Case, ...] = (
    _Case(
        is_it=lambda view: view.summary.standing is Standing.RETIRED,
        verdict="retired: its name is not used again",
        advice="",
    ),
    _Case(
        is_it=lambda view: view.summary.standing is Standing.REVOKED,
        verdict="revoked: no certificate of it is admitted",
        advice="if it is to come back: fleet claim create --domain {domain} --device {id}, "
        "then on the device: device-agent recover",
    ),
    _Case(
        is_it=lambda view: view.device.alarm is Alarm.CLONE,
        verdict="two lines of this device are alive: one of them is a copy",
        advice="find the device; then: fleet claim create --domain {domain} --device {id} --replace",
    ),
    _Case(
        is_it=lambda view: view.device.alarm is Alarm.ROLLBACK_OR_CLONE,
        verdict="an older state of it was seen: it was restored, or copied; renewals are frozen",
        advice="if it was restored: fleet device resume {id} --domain {domain}; if not, replace it: "
        "fleet claim create --domain {domain} --device {id} --replace",
    ),
    _Case(
        is_it=lambda view: view.device.code_conflict,
        verdict="a second key came with its code: one of the two is not the device's",
        advice="find the device; then: fleet claim create --domain {domain} --device {id} --replace",
    ),
    _Case(
        is_it=lambda view: view.device.suspended,
        verdict="suspended: it is kept out, and nothing is revoked",
        advice="fleet device resume {id} --domain {domain}",
    ),
    _Case(
        is_it=lambda view: any(request.rejected_at is None for request in view.waiting),
        verdict="it waits for approval",
        advice="compare the code that it shows; then: fleet device approve {id} --domain {domain}",
    ),
    _Case(
        is_it=lambda view: view.summary.standing is Standing.EXPIRED,
        verdict=_EXPIRED,
        advice="",  # as the ladder has it
    ),
    _Case(
        is_it=lambda view: view.summary.standing is Standing.ENROLLING,
        verdict="a certificate was issued, and not confirmed yet",
        advice="the device asks again by itself: device-agent doctor",
    ),
    _Case(
        is_it=lambda view: view.summary.standing is Standing.REGISTERED,
        verdict="registered, without a certificate",
        advice="fleet claim create --domain {domain} --device {id}, then on the device: device-agent enroll",
    ),
)


def _judgement(identity: Identity, view: DeviceView | None, requests: tuple[Waiting, ...]) -> tuple[str, str]:
    if view is None:
        return _unregistered(identity, requests)
    case = next((case for case in _CASES if case.is_it(view)), None)
    if case is None:
        return "active: its certificate is admitted", ""
    return case.verdict, case.advice.format(id=identity.device_id, domain=identity.domain)


def _unregistered(identity: Identity, requests: tuple[Waiting, ...]) -> tuple[str, str]:
    place = f"{identity.device_id} --domain {identity.domain}"
    if any(request.rejected_at is None for request in requests):
        return "not registered; it waits for approval", f"fleet device approve {place}"
    if requests:
        return f"not registered; its request was rejected by {requests[-1].rejected_by}", ""
    return "it asked, and is not registered", f"fleet device register {place}"

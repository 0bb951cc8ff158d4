"""Fleet homes for tests: real ones, made by the real `initialise`, with keys that open fast."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fleet.ca.hierarchy import Authority
from fleet.ca.keyring import KeyRing
from fleet.ca.loading import load_authority, records_of_files
from fleet.ca.signers import issuing_passphrase
from fleet.home import Home
from fleet.ra.authority.initialise import Plan, initialise

FAST = 4
"""scrypt's N is 2 to this power: nobody attacks these keys."""

STATUS_URL = "http://localhost:8080"
PLAN = Plan(fleet="acme", domains=("prod", "lab"), hosts=("fleet.example.org", "192.0.2.7"))


def utc_now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True, kw_only=True)
class FleetHome:
    """A home, and its authorities."""

    home: Home
    authority: Authority
    made_at: datetime


def make_home(
    root: Path,
    *,
    plan: Plan = PLAN,
    now: datetime | None = None,
    randomness: Callable[[int], bytes] = os.urandom,
) -> FleetHome:
    """Make a home; must not be called inside an event loop (there, await `initialise`)."""
    at = utc_now() if now is None else now
    made = asyncio.run(initialise(root, plan, now=at, randomness=randomness, work_factor=FAST))
    return FleetHome(home=made.home, authority=authority_of(made.home, plan.fleet), made_at=at)


def authority_of(home: Home, fleet: str = PLAN.fleet) -> Authority:
    """Return the authorities of a home."""
    return load_authority(
        home, fleet=fleet, keys=key_ring(home), records=records_of_files(home, at=utc_now())
    )


def key_ring(home: Home) -> KeyRing:
    """Return what opens the issuing keys of a home."""
    return KeyRing(issuing_passphrase(home.issuing_passphrase, environment={}))

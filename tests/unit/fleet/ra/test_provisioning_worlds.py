"""Whatever clients with one claim do, in whatever order: only what was registered is in force, and once."""

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_agent.wire.identity import serial_hex
from device_agent.wire.secret import Secret
from fleet.errors import FleetError
from fleet.ports import Transaction
from fleet.ra.people import claims
from fleet.ra.requests.lapsing import lapse_unregistered
from fleet.ra.requests.provisioning import NewCertificate, create_certificate
from fleet.ra.requests.registering import Registration, register_thing
from fleet.ra.requests.requester import Requester
from fleet.store import allowlist
from fleet.store.claims import load_batch
from tests.desk import Desk, Unit, at_desk
from tests.homes import FleetHome
from tests.unit.fleet.ra.test_provisioning import ADA, leaf_of, ready

DEVICES = ("d1", "d2")
KEYS = tuple(Unit(device_id=device_id) for device_id in (*DEVICES, *DEVICES))
"""Two keys for each device: one of them is a thief's, or of a device that lost its first."""

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("enroll"), st.integers(0, len(KEYS) - 1)),
        st.tuples(st.just("create"), st.integers(0, len(KEYS) - 1)),
        st.tuples(st.just("register"), st.integers(0, 2)),
        st.tuples(st.just("register"), st.integers(0, 2)),
        st.tuples(st.just("register as another"), st.integers(0, 2)),
        st.tuples(st.just("wait"), st.sampled_from([1, 30, 61])),
        st.tuples(st.just("revoke"), st.integers(0, len(DEVICES) - 1)),
        st.tuples(st.just("close"), st.just(0)),
    ),
    min_size=4,
    max_size=14,
)


@dataclass
class World:
    """A desk, a claim, and what its clients have got so far."""

    desk: Desk
    requester: Requester
    made: list[tuple[Unit, NewCertificate]] = field(default_factory=list)
    won: list[str] = field(default_factory=list)
    """Tokens that registered something."""
    revoked: set[str] = field(default_factory=set)

    async def step(self, verb: str, number: int) -> None:
        match verb:
            case "create" | "enroll":
                unit = KEYS[number]
                self.made.append(
                    (unit, await create_certificate(self.desk.context, self.requester, csr_pem=unit.csr))
                )
                if verb == "enroll":
                    await self.register(self.made[-1][1], unit.device_id)
            case "register" | "register as another" if self.made:
                unit, made = self.made[-1 - number % len(self.made)]
                await self.register(made, unit.device_id if verb == "register" else "other")
            case "wait":
                self.desk.clock.forward(timedelta(minutes=number))
                await lapse_unregistered(self.desk.context)
            case "revoke":
                await self.desk.revoke(DEVICES[number])
                self.revoked.add(f"prod:{DEVICES[number]}")
            case "close":
                await claims.revoke_batch(self.desk.context, "prod", "line3", actor=ADA, reason="")

    async def register(self, made: NewCertificate, name: str) -> None:
        asked = Registration(
            template="line3", token=Secret(made.token.reveal()), parameters={"SerialNumber": name}
        )
        thing = await register_thing(self.desk.context, self.requester, asked)
        assert thing.name == f"prod:{name}" != "prod:other"
        self.won.append(made.token.reveal())

    async def check(self) -> None:
        """Each token wins once at most, each device has one certificate at most, and uses are counted."""
        listed = (await self.desk.context.store.read(allowlist.snapshot, None)).entries
        things = [entry for entry in listed if entry.name.startswith("prod:")]
        registered = {
            serial_hex(leaf_of(made).serial_number)
            for _, made in self.made
            if made.token.reveal() in self.won
        }
        assert len(self.won) == len(set(self.won))
        assert len({entry.name for entry in things}) == len(things)
        assert {entry.serial for entry in things} <= registered
        assert not {entry.name for entry in things} & self.revoked
        batch = await self.desk.context.store.read(_line3, None)
        assert batch == len(registered)


async def _line3(tx: Transaction, _argument: None) -> int:
    batch = await load_batch(tx, "prod", "line3")
    assert batch is not None
    return batch.uses


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
async def test_in_every_world_only_what_was_registered_is_in_force(
    fleet_home: FleetHome, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    async with at_desk(fleet_home, tmp_path_factory.mktemp("world")) as desk:
        world = World(desk, await ready(desk, *DEVICES))
        for verb, number in steps:
            with suppress(FleetError):  # a refusal is an answer, too; what holds is looked at next
                await world.step(verb, number)
            await world.check()

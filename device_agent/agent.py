"""The agent of one device: enrolls it, keeps it connected, renews in time. Also for use inside a program.

    with Agent.opened(Settings(state=Path("/var/lib/device-agent"))) as agent:
        async with agent.connected():
            await agent.publish("telemetry", b"21.5")

It takes the one lock of its state folder, so that no second process uses the same identity. It never
sends a private key anywhere, and deletes nothing because of a failure.
"""

import asyncio
import random
import secrets
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from device_agent import __version__
from device_agent.asking import Asking
from device_agent.attesting import attestor_of
from device_agent.background import in_background
from device_agent.chronicle import Chronicle
from device_agent.clock import DeviceClock, GivenClock, forget_floor, now
from device_agent.config import Settings, hardware_id, model
from device_agent.control import serving
from device_agent.core.certificates import read_bundle
from device_agent.core.clock import TimeSource
from device_agent.core.record import Anchor
from device_agent.core.stored import StoredRecord
from device_agent.core.trust import Source
from device_agent.diary import Diary
from device_agent.driver import Driver
from device_agent.enrollment import (
    ClaimFiles,
    Enrollment,
    EstEnrollment,
    MqttEnrollment,
    anchors_of_file,
    begin_enrollment,
    device_id_of,
)
from device_agent.environment import change_of, end_of
from device_agent.errors import BadInputError, UsageError
from device_agent.folders import domain_of, make_place
from device_agent.hooks import Hooks
from device_agent.keys.counted import CountedKeys
from device_agent.keys.place import forget, open_keys, settle
from device_agent.lent import lending
from device_agent.life import Life
from device_agent.meter import Meter
from device_agent.ports import Clock, KeyStore, Ways
from device_agent.presence import Presence
from device_agent.recovering import Recovery, begin
from device_agent.signals import Brought, Signals
from device_agent.status import ShownTrust, Status, status_of, trust_members, trust_of
from device_agent.store import RecordStore, open_store
from device_agent.timing import Timing
from device_agent.traffic import Message, Traffic
from device_agent.trusting import Trusting
from device_agent.ways import NetworkWays
from device_agent.wire.fields import Fields
from device_agent.wire.trust import TrustBundle

__all__ = ["Agent", "ClaimFiles", "EstEnrollment", "MqttEnrollment"]

if TYPE_CHECKING:
    # The factory link is for a factory: an agent in the field does without its memory.
    from device_agent.core.station_link import Committed


class Agent:
    """One device. Made by `Agent.opened`."""

    def __init__(
        self,
        life: Life,
        settings: Settings,
        *,
        ways: Ways,
        hooks: Hooks,
        clock: Clock,
        chronicle: Chronicle,
    ) -> None:
        self._life, self._settings, self._clock, self._hooks = life, settings, clock, hooks
        self._chronicle = chronicle
        self._traffic = Traffic()
        self._signals = Signals()
        presence = Presence(life, self._traffic, signals=self._signals, meter=chronicle.meter)
        asking = self._asking = Asking(
            life,
            ways,
            host=presence,
            new_id=lambda: str(uuid.uuid4()),
            attestor=lambda record: attestor_of(settings.state, record),
            connection=settings.connection,
        )
        self._trusting = Trusting(life, asking, signals=self._signals, clock=clock)
        timing = Timing(
            life,
            clock,
            signals=self._signals,
            new_id=lambda: str(uuid.uuid4()),
            new_nonce=secrets.token_bytes,
        )
        self._driver = Driver(
            life,
            asking,
            self._trusting,
            timing,
            signals=self._signals,
            clock=clock,
            jitter=random.random,
            first_wait=settings.first_wait,
            chronicle=chronicle,
        )
        self._running = False

    @classmethod
    @contextmanager
    def opened(
        cls,
        settings: Settings,
        *,
        ways: Ways | None = None,
        keys: KeyStore | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> Iterator["Agent"]:
        """Take the lock and read the record.

        `clock` is for a program that knows the time; else the agent judges the machine's clock itself.

        Raises:
            LockedError: another process holds the state folder.
            StateError: the record cannot be read, or is a newer agent's.
            BadInputError: `Settings.key_place` is no place, or keys are in use elsewhere.
        """
        make_place(settings.state)
        with open_store(settings.state) as store:
            if settings.key_place:
                settle(settings.state, settings.key_place, in_use=store.keys_in_use())
            meter = Meter(settings.state, now=now() if clock is None else clock())
            agent = cls._made(
                settings,
                ways=ways or NetworkWays(settings.mqtt),
                keys=keys or open_keys(settings.state),
                clock=DeviceClock(settings.state, wrote=meter.wrote) if clock is None else GivenClock(clock),
                meter=meter,
            )
            try:
                yield agent
            finally:
                meter.keep()

    @classmethod
    def _made(cls, settings: Settings, *, ways: Ways, keys: KeyStore, clock: Clock, meter: Meter) -> "Agent":
        hooks = Hooks(settings.state, settings.hook_folder, wrote=meter.wrote)
        life = Life(
            RecordStore(settings.state, wrote=meter.wrote),
            CountedKeys(keys, signed=meter.signed, made=lambda: meter.wrote(0)),
            clock=clock,
            new_key_name=lambda: f"k-{secrets.token_hex(8)}",
            domain=domain_of(settings.state),
            published=lambda generation, credential: hooks.tell(
                change_of(settings.state, generation, credential)
            ),
        )
        diary = Diary(settings.state, wrote=meter.wrote)
        chronicle = Chronicle(meter, diary, record=life.record, moment=clock.moment)
        return cls(life, settings, ways=ways, hooks=hooks, clock=clock, chronicle=chronicle)

    @property
    def settings(self) -> Settings:
        """What this agent was told at its start."""
        return self._settings

    @property
    def record(self) -> StoredRecord:
        """What is on disk."""
        return self._life.record

    def status(self) -> Status:
        """Return what this device is now."""
        return status_of(
            self._life.record,
            moment=self._clock.moment(),
            running=self._running,
            connected=self._signals.is_connected,
            problem=self._signals.word,
            trouble=self._signals.trouble,
            tally=self._chronicle.meter.tally,
        )

    async def enroll(self, enrollment: Enrollment) -> Status:
        """Get the first certificate, connect with it, confirm it. Asked again, it goes on where it stopped.

        Raises:
            BadInputError: the device has a certificate already, or an argument is not what it should be.
            RefusedError: the server does not want this device. UnacceptableAnswerError: its answer is wrong.
            ChannelError: it could not be reached for `Settings.patience`.
        """
        self._require_blank()
        try:
            begin_enrollment(self._life, enrollment)
            await self._driver.settle(patience=self._settings.patience)
        finally:
            await self._asking.disconnect()
        return self.status()

    async def enroll_mqtt(self, enrollment: MqttEnrollment) -> Status:
        """Do that at the bootstrap listener."""
        return await self.enroll(enrollment)

    async def enroll_serial(
        self, port: str, *, device_id: str = "", trust_pem: str | None = None, baud: int = 115200
    ) -> "Committed":
        """Let the station at the other end of a serial port provision this device; its COMMIT confirms.

        Raises:
            ChannelError: the port cannot be used. UsageError: pyserial is missing.
            BadInputError: an argument is not what it should be.
        """
        from device_agent.channels.serial import SerialOptions, serve_station  # noqa: PLC0415 - a factory alone needs it
        from device_agent.unit import SerialUnit  # noqa: PLC0415 - as above

        unit = SerialUnit(
            self._life,
            hardware_id=hardware_id(self._settings),
            model=model(self._settings),
            wanted_id=device_id_of(device_id) if device_id else "",
            anchors=() if trust_pem is None else tuple(_der(anchor) for anchor in anchors_of_file(trust_pem)),
        )
        return await serve_station(port, unit, clock=self._time_of_station, options=SerialOptions(baud=baud))

    def _time_of_station(self) -> datetime | None:
        """Return by what a station's dates are judged; None where the clock cannot be right.

        No signed time can come here, so a clock that is far ahead counts, and may refuse a good station.
        """
        moment, system = self._clock.moment(), now()
        if moment.source is TimeSource.FLOOR:
            return None if system < moment.floor else system
        return moment.now

    async def recover_once(self, recovery: Recovery) -> Status:
        """Show a code or the hardware, where no agent runs; raises `AgentError`; what was held goes on."""
        begin(self._life, recovery, state=self._settings.state)
        try:
            await self._driver.settle(patience=self._settings.patience)
        finally:
            await self._asking.disconnect()
        await self._hooks.catch_up()
        return self.status()

    async def recover(self, recovery: Recovery) -> Status:
        """Have the running agent show a code or the hardware; it goes on with it where the server is away."""
        await self._driver.begin(lambda: begin(self._life, recovery, state=self._settings.state))
        return self.status()

    async def renew_once(self) -> Status:
        """Renew now and leave; for a device whose agent does not run. Raises `AgentError`."""
        try:
            await self._driver.renew_once()
        finally:
            await self._asking.disconnect()
        await self._hooks.catch_up()
        return self.status()

    async def run(self) -> None:
        """Stay connected and renew in time, until cancelled; raises `NotEnrolledError`."""
        self._running = True
        self._chronicle.begun(__version__)
        acts = {
            "renew": self._renew_for_caller,
            "recover": self._recover_for_caller,
            "status": self._status_for_caller,
            "trust": self._trust_for_caller,
        }
        try:
            async with (
                serving(self._settings.socket, acts),
                lending(self._settings, self._life, self._traffic),
                in_background(self._hooks.run()),
            ):
                await self._driver.run()
        finally:
            self._running = False

    def connected(self) -> AbstractAsyncContextManager[object]:
        """Run beside the body of a `with` statement."""
        return in_background(self.run())

    def makes_progress(self) -> bool:
        """Tell whether the running agent was heard of in time; for a watchdog."""
        return self._signals.pulse.beats()

    async def ready(self) -> None:
        """Wait until the device is connected."""
        await self._traffic.ready()

    async def renew(self) -> Status:
        """Have the running agent renew now; raises `AgentError` where that fails, and the old one goes on."""
        await self._driver.want_renewal()
        return self.status()

    def trust(self) -> tuple[ShownTrust, ...]:
        """Return what this device trusts, and since when."""
        return trust_of(self._life.record)

    async def bring(self, bundle: TrustBundle) -> tuple[ShownTrust, ...]:
        """Have the running agent judge a trust bundle, and hold it; raises as `take_bundle`."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._signals.brought.append(Brought(bundle=bundle, source=Source.FILE, done=done))
        self._signals.ring()
        await done
        return self.trust()

    async def take_bundle(self, bundle: TrustBundle) -> tuple[ShownTrust, ...]:
        """Judge a trust bundle and hold it, where no agent runs.

        Raises:
            UntrustedBundleError: it must not be believed, or the device could not connect by it.
            NotEnrolledError: there is no certificate yet.
        """
        try:
            await self._trusting.take(bundle, source=Source.FILE)
        finally:
            await self._asking.disconnect()
        return self.trust()

    def want_renewal(self) -> None:
        """Renew soon, without waiting for it; a failure is logged as any other."""
        self._driver.want_renewal().add_done_callback(lambda done: done.cancelled() or done.exception())

    async def publish(self, topic: str, payload: bytes) -> None:
        """Return once a broker has the message on `devices/<domain>/<id>/<topic>` (QoS 1, at least once).

        Waits as long as it takes, over reconnects and certificate changes. Raises `UsageError`.
        """
        self._require_connection()
        await self._traffic.publish(topic, payload)

    def messages(self, topic_filter: str) -> AbstractAsyncContextManager[AsyncIterator[Message]]:
        """Subscribe below `devices/<domain>/<id>/`; gives an iterator of messages. Raises `UsageError`."""
        self._require_connection()
        return self._traffic.messages(topic_filter)

    def reset(self) -> None:
        """Factory reset: forget the identity and destroy its keys. The server is not told."""
        self._life.erase()
        self._hooks.forget()
        forget_floor(self._settings.state)
        forget(self._settings.state)
        self._chronicle.forget()

    async def reset_and_tell(self) -> None:
        """Do that, and run the hooks for it, once: after it nobody is there to run them again."""
        active = self._life.record.life.active
        self.reset()
        if active is not None:
            await self._hooks.tell_end(end_of(self._settings.state, active))

    async def _renew_for_caller(self, _fields: Fields) -> dict[str, object]:
        return (await self.renew()).members()

    async def _recover_for_caller(self, fields: Fields) -> dict[str, object]:
        return (await self.recover(Recovery.read(fields))).members()

    async def _status_for_caller(self, _fields: Fields) -> dict[str, object]:
        return self.status().members()

    async def _trust_for_caller(self, fields: Fields) -> dict[str, object]:
        return trust_members(await self.bring(TrustBundle.read(fields.object("bundle"))))

    def _require_connection(self) -> None:
        if self._asking.is_lent:
            raise UsageError(
                "this agent has no connection: it is lent, or there is no broker", hint="device-agent status"
            )

    def _require_blank(self) -> None:
        active = self._life.record.life.active
        if active is not None:
            raise BadInputError(
                f"this device is enrolled already, as {active.broker.name}",
                hint="device-agent renew, or recover with a code; device-agent reset to begin again",
            )


def _der(anchor: Anchor) -> bytes:
    return read_bundle(anchor.pem, most=1)[0]

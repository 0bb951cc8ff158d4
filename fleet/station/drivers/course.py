"""The course of a visit that all drivers of other people's devices share, and what each of them has to do.

Who there is, what it holds, a request, a certificate, its installation, a proof, the records. A device that
is cut off anywhere is served again from the beginning and ends the same.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from device_agent.wire.factory import NONCE_BYTES, LinkState
from device_agent.wire.factory_replies import HelloReply
from device_agent.wire.objects import MAX_CSR_BYTES, parse_hardware_id
from device_agent.wire.problems import MalformedMessageError
from fleet.model import KeyOrigin
from fleet.station.drivers.console import ConsoleError
from fleet.station.drivers.driver import Decide, Driver, Seen
from fleet.station.keeping.package import Package
from fleet.station.keeping.units import Generation
from fleet.station.link import steps
from fleet.station.link.causes import Cause
from fleet.station.link.evidence import is_request_sound
from fleet.station.link.steps import Step

_LOOK_SECONDS = 1.0
_MISSED_LOOKS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """Who is at the other end."""

    hardware_id: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A device's request for a certificate."""

    csr: bytes
    """DER."""
    key: KeyOrigin


class DoubtfulUnitError(Exception):
    """The unit is not what it should be: a person must look at it."""


class Device(Protocol):
    """What a driver does with its device; every act may raise `ConsoleError` and `DoubtfulUnitError`.

    Every act may be done again, after a cut anywhere, and then ends as if it had been done once.
    """

    async def greet(self) -> Greeting | None:
        """Return who is there, or None where nobody answers."""
        ...

    async def holds(self, known: Sequence[Generation]) -> bytes | None:
        """Return the fingerprint of the leaf that the device holds, or None where it holds none.

        `known` is what was made for it before. A credential that is none of these has a fingerprint too,
        of whatever is known of it: it must never be overwritten unseen.
        """
        ...

    async def request(self, device_id: str, known: Sequence[Generation]) -> Request:
        """Return a request for this id, and a known one where the device still has the key of it."""
        ...

    async def install(self, package: Package, *, progress: Callable[[int, int], None]) -> None:
        """Write what the device needs, the leaf last, and read back that it is there."""
        ...

    async def prove(self, package: Package, *, nonce: bytes) -> None:
        """Return when the device has shown what it can of the key of its leaf, for this nonce."""
        ...


class Course:
    """A `Driver` of such a device."""

    def __init__(
        self,
        device: Device,
        *,
        recall: Callable[[str], Awaitable[Sequence[Generation]]],
        spent: Callable[[], tuple[int, int]],
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        self.wire_bytes = 0
        self.began = asyncio.get_running_loop().time()
        self._device = device
        self._recall = recall
        self._look_seconds = look_seconds
        self._spent = spent
        """Returns calls and bytes on the wire up to now."""
        self._step = Step.HELLO
        self._greeting = Greeting(hardware_id="", model="")
        self._device_id = ""
        self._package: Package | None = None
        self._progress = (0, 0)

    @property
    def step(self) -> Step:
        """Return what the visit is at."""
        return self._step

    @property
    def seen(self) -> Seen:
        """Return what is known of the unit."""
        done, total = self._progress
        return Seen(
            hardware_id=self._greeting.hardware_id,
            device_id=self._device_id,
            serial=self._package.serial if self._package else "",
            done=done,
            total=total,
            calls=self._spent()[0],
        )

    async def serve(self, *, decide: Decide, watch: Callable[[Driver], None]) -> steps.End:
        """Serve the unit to the end of its visit; raises `UnpluggedError`."""
        visit = _Visit(self, decide, watch)
        try:
            greeting = await self._device.greet()
            if greeting is None:
                return visit.end(Step.SILENT)
            self._begin(greeting)
            return await visit.run(await self._recall(greeting.hardware_id))
        except DoubtfulUnitError as error:
            return visit.end(Step.QUARANTINED, str(error), Cause.WRONG_PROOF)
        except ConsoleError as error:
            return visit.end(Step.FAILED, str(error), error.cause)
        except MalformedMessageError as error:
            return visit.end(Step.FAILED, f"what the unit says cannot be read: {error}", Cause.OTHER_FIRMWARE)

    async def until_it_leaves(self) -> None:
        """Return when the unit does not answer any more, or another answers."""
        missed = 0
        while missed < _MISSED_LOOKS:
            await asyncio.sleep(self._look_seconds)
            try:
                found = await self._device.greet()
            except (ConsoleError, MalformedMessageError):
                found = None
            if found is not None and found != self._greeting:
                return
            missed = 0 if found else missed + 1

    def _begin(self, greeting: Greeting) -> None:
        parse_hardware_id(greeting.hardware_id)
        self.began = asyncio.get_running_loop().time()
        self._greeting = greeting

    def move(self, step: Step) -> None:
        """Go on to a step."""
        self._step = step
        self.wire_bytes = self._spent()[1]

    async def hello(self, known: Sequence[Generation]) -> HelloReply:
        """Return what a device of ours would say of itself."""
        fingerprint = await self._device.holds(known)
        return HelloReply(
            nonce=bytes(NONCE_BYTES),
            hardware_id=self._greeting.hardware_id,
            model=self._greeting.model,
            state=LinkState.FRESH if fingerprint is None else LinkState.ACTIVE,
            fingerprint=fingerprint or b"",
        )

    async def request(self, device_id: str, known: Sequence[Generation]) -> steps.Issue:
        """Return the question for a certificate."""
        self._device_id = device_id
        asked = await self._device.request(device_id, known)
        if len(asked.csr) > MAX_CSR_BYTES or not is_request_sound(asked.csr):
            raise DoubtfulUnitError("its request is not signed with the key in it")
        return steps.Issue(
            hardware_id=self._greeting.hardware_id, device_id=device_id, csr=asked.csr, key=asked.key
        )

    async def install(self, package: Package, watch: Callable[[Driver], None]) -> None:
        """Bring a package onto the device."""

        self._package = package

        def progress(done: int, total: int) -> None:
            self._progress = done, total
            watch(self)

        await self._device.install(package, progress=progress)

    async def prove(self, package: Package, *, device_id: str) -> None:
        """Let the device prove itself."""
        self._package, self._device_id = package, device_id
        await self._device.prove(package, nonce=secrets.token_bytes(NONCE_BYTES))


class _Visit:
    """One pass over the course."""

    def __init__(self, course: Course, decide: Decide, watch: Callable[[Driver], None]) -> None:
        self._course = course
        self._decide = decide
        self._watch = watch

    def end(self, step: Step, detail: str = "", cause: Cause = Cause.NONE) -> steps.End:
        """Return the end of the visit."""
        self._course.move(step)
        return steps.End(step=step, detail=detail, cause=cause)

    async def run(self, known: Sequence[Generation]) -> steps.End:
        """Serve a unit that is known by now."""
        self._move(Step.RECOGNISE)
        match await self._decide(steps.Recognise(hello=await self._course.hello(known))):
            case steps.Enrol(device_id=device_id):
                return await self._enrol(device_id, known)
            case steps.Resume(device_id=device_id, package=package):
                return await self._finish(package, device_id=device_id)
            case decision:
                return self._stopped(decision)

    async def _enrol(self, device_id: str, known: Sequence[Generation]) -> steps.End:
        self._move(Step.IDENT)
        question = await self._course.request(device_id, known)
        self._move(Step.ISSUE)
        decision = await self._decide(question)
        if not isinstance(decision, steps.Issued):
            return self._stopped(decision)
        self._move(Step.WRITE)
        await self._course.install(decision.package, self._watch)
        return await self._finish(decision.package, device_id=device_id)

    async def _finish(self, package: Package, *, device_id: str) -> steps.End:
        self._move(Step.PROVE)
        await self._course.prove(package, device_id=device_id)
        hardware_id, fingerprint = self._course.seen.hardware_id, package.fingerprint
        self._move(Step.RECORD_PROOF)
        decision = await self._decide(steps.RecordProof(hardware_id=hardware_id, fingerprint=fingerprint))
        if isinstance(decision, steps.Recorded):
            self._move(Step.RECORD_COMMIT)
            decision = await self._decide(
                steps.RecordCommit(hardware_id=hardware_id, fingerprint=fingerprint)
            )
        return self.end(Step.COMMITTED) if isinstance(decision, steps.Recorded) else self._stopped(decision)

    def _move(self, step: Step) -> None:
        self._course.move(step)
        self._watch(self._course)

    def _stopped(self, decision: steps.Decision) -> steps.End:
        match decision:
            case steps.Hold(reason=reason, cause=cause):
                return self.end(Step.HELD, reason, cause)
            case steps.Doubt(reason=reason, cause=cause):
                return self.end(Step.QUARANTINED, reason, cause)
            case steps.Refuse(reason=reason, cause=cause):
                return self.end(Step.FAILED, reason, cause)
            case steps.Anew():
                return self.end(Step.FAILED, steps.KEPT_KEY, Cause.QUARANTINED)
            case _:
                return self.end(Step.LOST, "the station answered another question than was asked")


def fingerprint_of_unknown(shown: bytes) -> bytes:
    """Return a fingerprint for a credential that cannot be read: one that no certificate here has."""
    return hashlib.sha256(b"unknown credential\0" + shown).digest()

"""The driver of Mosquitto with our guard: a process that goes on enforcing when we are away.

It never lets the broker run without the guard, and never decides who is admitted: the store's list does.
"""

import asyncio
import contextlib
import logging
import secrets
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Self

from fleet.broker.doubt import Doubt
from fleet.broker.guard import build
from fleet.broker.guard_link import GuardLink, GuardRefusedError, LinkAddress
from fleet.broker.listing import Head, change_text, whole_list
from fleet.broker.mosquitto_config import LARGEST_MESSAGE
from fleet.broker.mosquitto_launch import MosquittoLaunch
from fleet.broker.mosquitto_process import find_program
from fleet.broker.second_layer import probe
from fleet.broker.service_entry import SERVICE
from fleet.broker.settings import BrokerEndpoints, BrokerFiles, CanaryFiles, Listeners, Mode
from fleet.broker.words import Reply, Status
from fleet.errors import FleetError, NeedsAttentionError, SequenceGapError, UnreachableError
from fleet.grants import DEFAULT_CLASSES, Classes, TopicDecision
from fleet.model import Allowlist, AllowlistChange, BrokerEvent, CutOff, Session
from fleet.ports import Clock

BROKER = "mosquitto"
CONTROL_CLIENT = f"{SERVICE}.control"
_START_SECONDS = 20.0
_LOAD_SECONDS = 120.0
_RELOAD_SECONDS = 10.0
_CONFIRM_SECONDS = 15.0
_REVIVE_SECONDS = 1.0
_POLL_SECONDS = 0.01
_LONGEST_JOURNAL = 10_000
_LONGEST_CHANGE = LARGEST_MESSAGE - 1024
_CHANGE_REFUSALS = frozenset({"gap", "malformed", "memory"})

_log = logging.getLogger(__name__)


def mosquitto_available() -> str | None:
    """Return why Mosquitto with the guard cannot run here, with what to install; None if it can."""
    program = find_program()
    if program is None:
        return f"mosquitto is not installed: apt-get install {build.PACKAGES}"
    try:
        shown = subprocess.run([program, "-h"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return f"{program} does not run"
    if shown.stdout.startswith((b"mosquitto version 0.", b"mosquitto version 1.")):
        return f"{program} is older than 2.0, which the guard needs"
    lacking = build.missing()
    return None if lacking is None else f"{lacking}: apt-get install {build.PACKAGES}"


class MosquittoBroker:
    """`BrokerEnforcer` over Mosquitto. `async with` starts it or finds it running; leaving lets it go on."""

    def __init__(
        self,
        files: BrokerFiles,
        listeners: Listeners,
        *,
        crls: Sequence[bytes],
        clock: Clock,
        mode: Mode = Mode.MANAGED,
        classes: Classes = DEFAULT_CLASSES,
    ) -> None:
        """Take the CRLs (DER) of all issuing CAs in `files`, for cause only, whose the process is, and what
        certificates may do as long as nobody says otherwise."""
        self._files = files
        self._listeners = listeners
        self._crls = tuple(crls)
        self._clock = clock
        self._launch = MosquittoLaunch(files, listeners, mode=mode, clock=clock, classes=classes)
        self._link: GuardLink | None = None
        self._head: Head | None = None
        self._run = ""
        self._rules = ""
        self._doubt = Doubt()
        self._confirmed_at = clock()
        self._order = asyncio.Lock()
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Bring the broker up, and the control connection with it.

        Raises:
            FleetError: it cannot be built, started or reached; nothing runs unguarded.
        """
        async with contextlib.AsyncExitStack() as stack:
            await self._launch.up(self._crls)
            self._link = await self._connect(stack)
            self._doubt.arise("the service started")
            group = await stack.enter_async_context(asyncio.TaskGroup())
            stack.callback(group.create_task(self._watch(self._link)).cancel)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go; the broker goes on with the last good list."""
        await self._stack.__aexit__(kind, error, trace)
        self._link = None

    @property
    def endpoints(self) -> BrokerEndpoints:
        """Where the broker answers, once it is up."""
        return self._launch.endpoints

    async def stop(self) -> None:
        """End a managed broker's process too."""
        await self._launch.stop()

    async def replace(self, allowlist: Allowlist) -> None:
        """Make the whole set the broker's; it stands on disk even if the broker does not answer now."""
        async with self._order:
            doubt, self._head = self._doubt.number, None
            try:
                self._head = await self._load(allowlist)
            except FleetError:
                self._doubt.arise("the broker did not take its list")
                raise
            self._doubt.settle(doubt)

    async def change(self, change: AllowlistChange) -> Sequence[CutOff]:
        """Apply the next change, at the guard first: it must not wait for a disk."""
        async with self._order:
            if self._head is None:
                raise SequenceGapError("the broker's list is in doubt; it needs the whole one")
            started = time.perf_counter()
            head = self._head.after(change)
            text = change_text(change, generation=head.generation)
            if len(text) > _LONGEST_CHANGE:
                raise SequenceGapError("the change is too long for one message; the whole list is not")
            self._head = None  # until we know that it arrived
            replies, took_ms = await self._deny_and_keep(text, started)
            if _agrees(_status_of(replies), head):
                self._head = head
            else:
                self._doubt.arise("the broker's list differs after a change")
            return _cut_offs(replies, took_ms)

    async def govern(self, classes: Classes) -> None:
        """Put what certificates may do in force, for those that are connected too."""
        async with self._order:
            try:
                self._rules = await asyncio.to_thread(self._launch.write_rules, classes)
                status = _status_of(await self._ask("rules"))
            except FleetError:
                self._doubt.arise("the broker did not take its rules")
                raise
            if status.rules != self._rules:
                self._doubt.arise("the broker follows other rules than ours")
                raise NeedsAttentionError("the broker's guard read other rules than were written")

    async def kick(self, name: str) -> Sequence[CutOff]:
        """Drop the live sessions of a broker name; they may come back."""
        if not name or not name.isascii() or not name.isprintable() or " " in name:
            return ()  # nobody is called so, and an order is one line
        started = time.perf_counter()
        replies = await self._ask(f"kick {name}")
        return _cut_offs(replies, _since_ms(started))

    async def sessions(self) -> Sequence[Session]:
        """Return the live sessions, our own included."""
        return [session for reply in await self._ask("sessions") for session in reply.sessions]

    async def events(self) -> AsyncIterator[BrokerEvent]:
        """Yield connections, refusals and ends, in the broker's order, those of while we were away too."""
        async for event in self._up().events():
            yield event

    async def decisions(self) -> AsyncIterator[TopicDecision]:
        """Yield a sample of what was allowed and denied, from now on."""
        async for decision in self._up().decisions():
            yield decision

    async def doubtful(self) -> str:
        """Return, with the reason, as long as the broker's list is in doubt; `replace` settles it."""
        return await self._doubt.reason()

    async def stamp(self) -> int:
        """Return the highest stamp that the broker handed out so far."""
        return _status_of(await self._ask("status")).stamp

    def age(self) -> timedelta:
        """Return how long ago the broker's list was last proven equal to ours."""
        return self._clock() - self._confirmed_at

    async def publish_crls(self, crls: Sequence[bytes]) -> None:
        """Give the broker its second layer: verify, swap, reload, and show it the canaries.

        Raises:
            BadInputError: a CRL is not right; the earlier ones stay.
            NeedsAttentionError: the broker does not read them.
        """
        before = _status_of(await self._ask("status"))
        await asyncio.to_thread(self._launch.write_crls, crls)
        self._launch.reload()
        await self._wait_for_reload(before)
        for canary in self._files.canaries:
            await self._show(canary)

    async def reload_tls(self) -> None:
        """Let the listeners show the certificate and trust the roots that stand in the files now.

        Raises:
            FleetError: the broker, or our own connection to it, goes on with what it had.
        """
        async with self._order:  # what is denied in the meantime waits for our own connection
            if self._up().reload_tls():
                await self._wait_until_up()
            before = _status_of(await self._ask("status"))
            await asyncio.to_thread(self._launch.write_trust)
            if self._launch.is_ours:
                self._launch.reload()
                await self._wait_for_reload(before)
            else:
                _log.warning("the broker must be made to read its files again: systemctl reload mosquitto")

    async def _wait_until_up(self) -> None:
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._up().up.wait()
        except TimeoutError as error:
            raise NeedsAttentionError(
                "the broker does not let the fleet's own service in with its new certificate"
            ) from error

    async def _connect(self, stack: contextlib.AsyncExitStack) -> GuardLink:
        link = GuardLink(
            LinkAddress(
                address=_reachable(self._listeners.bind),
                port=self.endpoints.operational_port,
                host=self._listeners.host,
                trust=self._files.server_trust,
                certificate=self._files.service_certificate,
                key=self._files.service_key,
                client_id=CONTROL_CLIENT,
            ),
            broker=BROKER,
        )
        stack.push_async_callback(link.close)
        link.start()
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._get_in(link)
        except TimeoutError as error:
            reason = "refuses the fleet's own service" if link.refused else "does not answer"
            raise UnreachableError(f"the broker {reason}", hint=f"see {self._launch.paths.log}") from error
        return link

    async def _get_in(self, link: GuardLink) -> None:
        tried = False
        while not link.up.is_set():
            await link.turned.wait()
            link.turned.clear()
            if link.refused and not tried:
                tried = True
                _log.warning("the broker's list is damaged, or of before our certificate was renewed")
                await asyncio.to_thread(self._launch.admit_only_ourselves)
                self._launch.reload()

    def _up(self) -> GuardLink:
        if self._link is None:
            raise UnreachableError("the broker is not up")
        return self._link

    async def _ask(self, verb: str, *, body: bytes = b"", timeout_s: float = 10.0) -> list[Reply]:
        return await self._up().order(verb, body=body, timeout_s=timeout_s)

    async def _load(self, allowlist: Allowlist) -> Head:
        head, text = whole_list(allowlist, generation=secrets.token_hex(8))
        await asyncio.to_thread(self._launch.lists.replace, text)
        status = _status_of(await self._ask("load", timeout_s=_LOAD_SECONDS))
        if not _agrees(status, head):
            raise NeedsAttentionError("the broker's guard read another list than was written")
        await self._confirm(status)
        return head

    async def _deny_and_keep(self, text: bytes, started: float) -> tuple[list[Reply], float]:
        """Order a change, then keep it for a broker that starts alone, also if it did not arrive."""
        try:
            replies = await self._ask("change", body=text)
            took_ms = _since_ms(started)
        except GuardRefusedError as error:
            self._doubt.arise(str(error))
            if error.code in _CHANGE_REFUSALS:
                raise SequenceGapError("the change does not fit the broker's list") from error
            raise
        except UnreachableError:
            self._doubt.arise("a change may not have arrived")
            await self._keep(text)
            raise
        await self._keep(text)
        if self._launch.lists.journaled > _LONGEST_JOURNAL:
            self._doubt.arise("the journal of changes is long")
        return replies, took_ms

    async def _keep(self, text: bytes) -> None:
        try:
            await asyncio.to_thread(self._launch.lists.append, text)
        except FleetError:
            # The guard follows it, but a broker that starts alone would not: the whole list must be written.
            self._doubt.arise("a change is not on the disk")
            raise

    async def _watch(self, link: GuardLink) -> None:
        """Prove the list again and again, and bring back what fell."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CONFIRM_SECONDS if link.up.is_set() else _REVIVE_SECONDS):
                    await link.turned.wait()
            link.turned.clear()
            try:
                if link.up.is_set():
                    await self._prove()
                elif await self._launch.revive():
                    _log.error("the broker had ended and was started again")
            except FleetError as error:
                _log.warning("the broker needs attention: %s", error)

    async def _prove(self) -> None:
        async with self._order:
            status = _status_of(await self._ask("status"))
            if status.run != self._run:
                self._run = status.run
                self._up().forget_stamps()
            if self._head is None:
                return
            if not _agrees(status, self._head) or self._rules not in {"", status.rules}:
                self._head = None
                self._doubt.arise("the broker's list differs from ours")
                return
            await self._confirm(status)

    async def _confirm(self, status: Status) -> None:
        await self._ask(f"confirm {status.digest}")
        self._confirmed_at = self._clock()

    async def _wait_for_reload(self, before: Status) -> None:
        try:
            async with asyncio.timeout(_RELOAD_SECONDS):
                status = before
                while status.reloads == before.reloads:
                    await asyncio.sleep(_POLL_SECONDS)
                    status = _status_of(await self._ask("status"))
        except TimeoutError as error:
            raise NeedsAttentionError("the broker did not read its CRLs again") from error

    async def _show(self, canary: CanaryFiles) -> None:
        await probe(
            canary,
            address=_reachable(self._listeners.bind),
            port=self.endpoints.operational_port,
            host=self._listeners.host,
            trust=self._files.server_trust,
        )


def _reachable(bind: str) -> str:
    """Return where to connect to something that listens on `bind`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind, bind)  # noqa: S104 - compared, not bound


def _since_ms(started: float) -> float:
    return (time.perf_counter() - started) * 1000


def _status_of(replies: Sequence[Reply]) -> Status:
    status = replies[-1].status
    if status is None:
        raise UnreachableError("the broker's guard answered without its status")
    return status


def _agrees(status: Status, head: Head) -> bool:
    told = (status.generation, status.sequence, status.count, status.digest)
    return told == (head.generation, head.sequence, head.count, head.digest_hex)


def _cut_offs(replies: Sequence[Reply], took_ms: float) -> tuple[CutOff, ...]:
    """Return the sessions that an order ended. The reply is sent after their sockets were closed, so the time
    from the order to the reply is what each of them had left, at most."""
    return tuple(
        CutOff(broker=BROKER, name=dropped.name, serial=dropped.serial, cut_off_ms=took_ms)
        for reply in replies
        for dropped in reply.dropped
    )

"""Drives one device: asks the table, does what it says, feeds back what came of it; stays connected.

One task owns the connection and runs all of this. On any failure nothing is deleted: it waits, with full
jitter, and tries the next way. A renewal that fails leaves the connection as it was.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from time import monotonic

from device_agent.asking import Asking
from device_agent.chronicle import Chronicle
from device_agent.core import renewal
from device_agent.core.events import (
    Action,
    Ask,
    Disowned,
    Facts,
    Failed,
    ForgetKey,
    MakeKey,
    ProofRefused,
    Reported,
    Route,
    Send,
    Tick,
)
from device_agent.core.ladder import Rung, Shown, rung_of
from device_agent.core.lifecycle import State, state_of
from device_agent.core.rate import a_day
from device_agent.core.record import Pending
from device_agent.core.trust import Source
from device_agent.errors import (
    AgentError,
    KeyStoreError,
    NotAdmittedError,
    NotEnrolledError,
    RefusedError,
    UnacceptableAnswerError,
)
from device_agent.journal import fields
from device_agent.life import Life
from device_agent.reporting import Reporting
from device_agent.signals import Brought, Signals
from device_agent.timing import Timing
from device_agent.trouble import KEY_LOST, cut_off, fields_of, may_pass, require_wanted, trouble_of, word_of
from device_agent.trusting import Trusting
from device_agent.wire import pace
from device_agent.wire.problems import ProblemCode, Retry
from device_agent.wire.replies import Issued

_log = logging.getLogger(__name__)

_SHORTEST_REST = timedelta(seconds=10)
"""A server that wants everything renewed at once gets no storm from us."""
_LONGEST_RETRY = timedelta(seconds=15)
_RENEWALS_A_DAY = 24
"""Flash wears: a server whose certificates are always due gets no more; an operator may ask for more."""

_MAY_WAIT = frozenset({State.SETTLING, State.SETTLED, State.RENEWING})
"""Where a renewal is to come, or waits for its answer."""

_TURNS_AWAY = frozenset({ProblemCode.REVOKED, ProblemCode.SUSPENDED})
"""A listener that opens TLS to any certificate of ours, as EST's, says so instead of closing."""


class Driver:
    """The loop of one device. `jitter` gives a random number in [0, 1)."""

    def __init__(
        self,
        life: Life,
        asking: Asking,
        trusting: Trusting,
        timing: Timing,
        *,
        signals: Signals,
        clock: Callable[[], datetime],
        jitter: Callable[[], float],
        first_wait: timedelta,
        chronicle: Chronicle,
    ) -> None:
        self._life, self._asking, self._trusting, self._signals = life, asking, trusting, signals
        self._timing, self._chronicle = timing, chronicle
        self._clock, self._jitter, self._first_wait = clock, jitter, first_wait
        self._refused: frozenset[Route] = frozenset()
        self._wants_renewal = False
        self._waiting: list[asyncio.Future[None]] = []
        self._unasked = a_day(_RENEWALS_A_DAY)
        self._reporting = Reporting(asking, signals)
        self._begun: deque[tuple[Callable[[], None], asyncio.Future[None]]] = deque()

    def want_renewal(self) -> asyncio.Future[None]:
        """Renew now; the result is there when it is done, or has failed once."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self._wants_renewal = True
        self._signals.ring()
        return done

    def begin(self, act: Callable[[], None]) -> asyncio.Future[None]:
        """Do something between two rounds; the result is there when the next one is done, or has failed."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._begun.append((act, done))
        self._signals.ring()
        return done

    async def settle(self, *, patience: timedelta) -> None:
        """Work until there is a confirmed certificate; try again for so long where that can help.

        Raises:
            AgentError: it did not come to that. The same call goes on where this one stopped.
        """
        deadline = asyncio.get_running_loop().time() + patience.total_seconds()
        before, failures = self._serial(), 0
        while True:
            error = await self._round()
            await self._trusting.take_brought()
            if self._is_enrolled() and self._serial() != before:
                return
            failures += 1
            pause = min(self._pause(failures, error), _LONGEST_RETRY)
            out_of_time = asyncio.get_running_loop().time() + pause.total_seconds() > deadline
            if error is not None and (out_of_time or not may_pass(error)):
                raise error
            if error is None and out_of_time:
                raise UnacceptableAnswerError("the server's answers did not lead to a certificate")
            _log.info("%s; trying again in %.1f s", error, pause.total_seconds())
            await asyncio.sleep(pause.total_seconds())

    async def renew_once(self) -> None:
        """Renew now, once; raises `AgentError` where it fails, and the certificate in use stays."""
        before = self._life.active.serial
        self._wants_renewal = True
        error = await self._round()
        await self._trusting.take_brought()
        if self._life.active.serial == before or self._life.record.life.pending is not None:
            raise error or UnacceptableAnswerError("the server's answers did not lead to a new certificate")

    async def run(self) -> None:
        """Stay connected and renew in time, until cancelled.

        Raises:
            NotEnrolledError: there is nothing to connect with, and nothing to enroll by.
        """
        self._life.leave_station()
        if state_of(self._life.record.life) is State.BLANK:
            raise NotEnrolledError("this device has no certificate yet", hint="device-agent enroll")
        failures = 0
        try:
            while True:
                error = await self._round(hold=True)
                await self._note(error)
                await self._trusting.take_brought()
                await self._reporting.tell()
                self._chronicle.look(self._life.record)
                failures = 0 if error is None else failures + 1
                await self._signals.rest(
                    self._until_renewal() if error is None else self._pause(failures, error)
                )
                if self._signals.lost is not None:
                    failures = await self._reconnect_later(failures)
        finally:
            await self._asking.disconnect()

    async def _reconnect_later(self, failures: int) -> int:
        trouble = cut_off(self._signals.lost or "", self._signals.trouble, now=self._clock())
        _log.warning("%s", trouble.text, extra=fields(problem=trouble.word))
        self._signals.trouble = trouble
        await self._asking.disconnect()
        self._signals.lost = None
        await self._signals.rest(self._pause(failures + 1, None))
        return failures

    async def _round(self, *, hold: bool = False) -> AgentError | None:
        """Do all that is due; where a credential is turned away, go on with the next way at once."""
        self._refused, turned_away = frozenset(), None
        self._do_begun()
        before_it = self._serial()
        if (unreached := await self._ask_when()) is not None:
            return self._ended(unreached, before_it)
        while True:
            before = self._refused
            error = None if self._is_put_off() else await self._do(self._life.take(Tick(facts=self._facts())))
            if hold:
                error = error or await self._hold()
            if self._refused == before:
                break
            turned_away = error
        if hold and self._asking.serial is None:
            error = error or turned_away
        return self._ended(error, before_it)

    def _ended(self, error: AgentError | None, serial_before: str) -> AgentError | None:
        self._stand(error)
        self._chronicle.attempted(self._life.record, error)
        has_renewed = self._serial() != serial_before and not self._wants_renewal
        self._tell_waiting(None if has_renewed else error)
        return error

    async def _ask_when(self) -> AgentError | None:
        """Ask for another moment where that of the renewal was missed; return why nobody can be asked.

        What an outage has held up comes back all at once, and the server has spread it meanwhile. Whoever
        is connected has heard so by a notice.
        """
        life = self._life.record.life
        if self._wants_renewal or life.active is None or state_of(life) not in _MAY_WAIT:
            return None
        is_told = self._asking.serial is not None
        if is_told or not renewal.was_missed(life.active, now=self._clock()):
            return None
        error = await self._do([Send(ask=Ask.STATUS, route=Route.ACTIVE)])
        answered = isinstance(error, RefusedError) or Route.ACTIVE in self._refused
        return None if answered else error

    async def _do(self, actions: Sequence[Action]) -> AgentError | None:
        """Do actions and what follows from them; return the first error, and go on after it."""
        waiting, first = deque(actions), None
        while waiting:
            action = waiting.popleft()
            try:
                waiting.extend(await self._perform(action))
            except AgentError as error:
                _log.debug("%s: %s", action, error)
                waiting.extend(self._life.take(Failed()))
                first = first or error
        return first

    async def _perform(self, action: Action) -> Sequence[Action]:
        match action:
            case MakeKey():
                if not self._wants_renewal:
                    self._unasked.allow(monotonic())
                actions = self._life.make_key(self._facts())
                self._wants_renewal = False
                return actions
            case ForgetKey():
                return ()  # the life destroys it when no record names it any more
            case Send():
                return await self._send(action)

    async def _send(self, send: Send) -> Sequence[Action]:
        active, pending = self._life.record.life.active, self._life.record.life.pending
        try:
            heard = await self._asking.send(send)
        except NotAdmittedError:
            self._refused |= {send.route}
            raise
        except RefusedError as error:
            if send.route is Route.ACTIVE and error.code in _TURNS_AWAY:
                self._refused |= {send.route}
            if pending is not None and (refused := _refusal_of(send, pending, error)) is not None:
                self._life.take(refused)
            raise
        self._refused -= {send.route}
        if isinstance(heard, Issued):
            actions = self._life.install(heard)
            self._signals.brought += [Brought(bundle=each, source=Source.ANSWER) for each in heard.bundles]
            return actions
        actions = self._life.take(heard)
        if self._life.record.life.active != active:
            _log.info("the server confirmed the certificate %s", self._life.active.serial)
            self._refused, self._wants_renewal = frozenset(), False
        if isinstance(heard, Reported):
            self._hear(heard)
        return actions

    def _hear(self, reported: Reported) -> None:
        """Take the server's wish; a certificate that is turned away may be one whose CA was given up."""
        require_wanted(reported.state)
        if reported.renew_after is not None:
            self._life.wish(reported.serial, reported.renew_after)

    async def _hold(self) -> AgentError | None:
        """Be connected, with the active certificate where no other connection stands.

        Where that is lent, ask what the server wishes instead: no notice comes.
        """
        active = self._life.record.life.active
        if active is None or self._asking.serial not in (None, active.serial):
            return None
        if self._asking.serial is None and not self._facts().usable(Route.ACTIVE):
            return None
        if self._asking.is_lent and (error := await self._do([Send(ask=Ask.STATUS, route=Route.ACTIVE)])):
            return error
        try:
            if not self._asking.is_lent:
                await self._asking.connect(active)
            await self._timing.learn(self._asking)
            await self._asking.leave_outdated()
        except NotAdmittedError as error:
            self._refused |= {Route.ACTIVE}
            return error
        except AgentError as error:
            return error
        return None

    def _stand(self, error: AgentError | None) -> None:
        """Find out on which rung of the ladder of recovery the device stands now."""
        is_lost = isinstance(error, KeyStoreError) and self._life.lose_keys()
        record, facts = self._life.record, self._facts()
        if record.life.active is None:
            return
        has_other = record.life.pending is not None and record.life.pending.credential is not None
        shown = Shown(
            admitted=facts.usable(Route.ACTIVE) or (has_other and facts.usable(Route.PENDING)),
            has_key=not is_lost,
            has_way_back=record.recovery is not None,
            answer=error.code if isinstance(error, RefusedError) else None,
        )
        before = Rung.CERTIFICATE if record.standing is None else record.standing.rung
        word = "" if error is None else word_of(error)
        self._life.stand(rung_of(shown, before=before), why=KEY_LOST if is_lost else word)

    def _is_put_off(self) -> bool:
        is_asked_for = self._wants_renewal or Route.ACTIVE in self._refused
        return self._life.is_put_off() and not is_asked_for

    def _serial(self) -> str:
        active = self._life.record.life.active
        return "" if active is None else active.serial

    def _facts(self) -> Facts:
        facts = self._life.facts(refused=self._refused)
        may_renew = self._wants_renewal or self._unasked.has_one(monotonic())
        return replace(facts, due=(facts.due or self._wants_renewal) and may_renew)

    def _is_enrolled(self) -> bool:
        life = self._life.record.life
        return life.active is not None and life.pending is None and life.proof is None

    def _until_renewal(self) -> timedelta:
        active, longest = self._life.record.life.active, self._reporting.longest_rest
        if active is None:
            return longest
        return min(max(renewal.renewal_of(active) - self._clock(), _SHORTEST_REST), longest)

    def _pause(self, failures: int, error: AgentError | None) -> timedelta:
        asked = error.retry_after_seconds if isinstance(error, RefusedError) else None
        jitter, first, longest = self._jitter(), self._first_wait, self._reporting.longest_wait
        back_off = pace.back_off(failures, jitter=jitter, first=first, longest=longest)
        return back_off + timedelta(seconds=asked or 0)

    async def _note(self, error: AgentError | None) -> None:
        """Keep what went wrong, and tell it where that is news: a device may be connected and not renew."""
        before = self._signals.word
        self._signals.trouble = trouble_of(error, self._signals.trouble, now=self._clock())
        if error is not None:
            _log.warning("%s", error, extra=fields_of(error))
        elif self._signals.trouble is None and before:
            _log.info("over: %s", before)
        if self._signals.word != before:
            await self._asking.report()

    def _do_begun(self) -> None:
        while self._begun:
            act, done = self._begun.popleft()
            try:
                act()
            except AgentError as error:
                done.set_exception(error)
            else:
                self._waiting.append(done)

    def _tell_waiting(self, error: AgentError | None) -> None:
        if error is None and self._wants_renewal:
            return  # it was wanted while this round was on its way; the next one does it
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            if done.done():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)


def _refusal_of(send: Send, pending: Pending, error: RefusedError) -> ProofRefused | Disowned | None:
    """Return what a refusal says of the pending slot, None where it says nothing."""
    if send.ask is Ask.ENROLL and error.retry is Retry.NEVER:
        return ProofRefused(key_hash=pending.key_hash)
    is_unknown = send.ask is Ask.CONFIRM and error.code is ProblemCode.UNKNOWN_DEVICE
    if is_unknown and pending.credential is not None:
        return Disowned(serial=pending.credential.serial)
    return None

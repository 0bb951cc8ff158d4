"""The station's half of the factory link with one unit: messages in, effects out, one table of steps.

It does no I/O and never decides who gets a certificate: it asks a `Question`, and goes on with the
answer. Nothing goes to the unit before the ledger has it, nothing is committed before it was proven.
"""

from collections.abc import Callable, Sequence

from device_agent.wire import factory_replies as replies
from device_agent.wire import factory_requests as requests
from device_agent.wire.factory import NONCE_BYTES, LinkState, Rc, proof_text, station_text
from device_agent.wire.framing import Frame, Framing
from device_agent.wire.objects import MAX_CSR_BYTES, ObjectId, encode_certificates
from device_agent.wire.smp import DEFAULT_GROUP
from fleet.station.keeping.package import Package
from fleet.station.link import steps
from fleet.station.link.caller import Caller
from fleet.station.link.causes import MOST_HEARD, REFUSAL_CAUSES, SILENCES, Cause, cause_of_silence
from fleet.station.link.evidence import is_proof_right, is_request_sound
from fleet.station.link.pace import MESSAGE_OVERHEAD, Pace
from fleet.station.link.pieces import Incoming, Outgoing
from fleet.station.link.steps import REFUSALS, STEPS, Event, Step
from fleet.station.own.identity import StationIdentity

_MOST_ATTEMPTS = 64
_NOISY_ATTEMPTS = 160
"""With one wrong bit in 1,000, INSTALL goes through one time in twenty-five over console lines."""
_FEW_ATTEMPTS = {Step.HELLO: 6, Step.BYE: 4}
"""Nobody may be there, or not any more; unless broken frames show that somebody is."""
_FEW_NOISY_ATTEMPTS = {Step.HELLO: 24, Step.BYE: 4}
"""BYE is a courtesy to a unit that may have left. A HELLO that no noise explains is a bad cable: the worker
is told soon, and it is tried again all the same."""
_MOST_SETBACKS = 12
_MOST_WRONG_PROOFS = 3
_BUSY_SECONDS = 0.5


class Session:
    """One session; each method returns the next effect, and there is one at a time."""

    def __init__(
        self,
        *,
        identity: StationIdentity,
        pace: Pace,
        randomness: Callable[[int], bytes],
        group: int = DEFAULT_GROUP,
        framings: Sequence[Framing] = (Framing.COBS, Framing.LINES),
    ) -> None:
        self.step = Step.HELLO
        self.caller = Caller(pace=pace, group=group, framings=framings, randomness=randomness)
        self.device_id = ""
        self.tofu = False
        self._hello: replies.HelloReply | None = None
        self._package: Package | None = None
        self._identity = identity
        self._nonce = randomness(NONCE_BYTES)
        self._incoming = Incoming(length=0, digest=b"")
        self._outgoing = Outgoing(())
        self._written = 0
        self._carries_chain = True
        self._may_write_chain = True
        self._is_noisy = False
        self._setbacks = 0
        self._wrong_proofs = 0
        self._has_forgotten = False
        self._detail = ""
        self._cause = Cause.NONE
        self._heard = b""

    @property
    def progress(self) -> tuple[int, int]:
        """Bytes of its objects that the unit holds, and all of them."""
        return self._written + self._outgoing.done, self._written + self._outgoing.total

    @property
    def hardware_id(self) -> str:
        """Of the unit, or empty before HELLO was answered."""
        return self._hello.hardware_id if self._hello else ""

    @property
    def serial(self) -> str:
        """Of the unit's certificate, or empty before there is one."""
        return self._package.serial if self._package else ""

    @property
    def hello(self) -> replies.HelloReply:
        """Who the unit said it is. Only after HELLO was answered."""
        if self._hello is None:
            raise RuntimeError("nobody answered HELLO yet")
        return self._hello

    @property
    def package(self) -> Package:
        """What the unit gets. Only after it is known."""
        if self._package is None:
            raise RuntimeError("there is no certificate yet")
        return self._package

    def start(self) -> steps.Effect:
        """Open the session."""
        return self._enter(Step.HELLO)

    def hear_noise(self) -> None:
        """A broken frame came."""
        self._is_noisy = True

    def hear(self, octets: bytes) -> None:
        """Bytes came, whatever they are: where nobody answers they tell what is wrong."""
        if self.step is Step.HELLO:
            self._heard = (self._heard + octets)[-MOST_HEARD:]

    def drown(self) -> steps.Effect:
        """More came than any answer is long: whatever is there does not let itself be asked."""
        return self._stop(Event.GONE, "it sends without end", Cause.FLOODS)

    def received(self, frame: Frame, *, after: float) -> steps.Effect | None:
        """Take a message that came so many seconds after the last one was sent.

        None means that it is not the answer waited for: go on waiting.
        """
        reply = self.caller.answer(frame, after=after)
        if reply is None:
            return None
        if isinstance(reply, replies.Refusal):
            return self._move(self._refused(reply.rc))
        return self._move(self._judge(reply))

    def timed_out(self) -> steps.Effect:
        """Nothing right came in time: ask again, in smaller pieces where it has pieces."""
        few = _FEW_NOISY_ATTEMPTS if self._is_noisy else _FEW_ATTEMPTS
        most = few.get(self.step, _NOISY_ATTEMPTS if self._is_noisy else _MOST_ATTEMPTS)
        if self.caller.fail() >= most:
            return self._stop(Event.GONE, *self._why_nothing_came())
        if self.step is Step.INSTALL and self._carries_chain and self._may_write_chain:
            return self._move(Event.TOO_LONG)
        if self.step in (Step.READ, Step.WRITE):
            return self._enter(self.step)
        return self.caller.again() or self._enter(self.step)

    def _why_nothing_came(self) -> tuple[str, Cause]:
        if self.caller.unreadable:
            return f"what answers cannot be read: {self.caller.unreadable}", Cause.OTHER_FIRMWARE
        if self.step is Step.HELLO:
            # Spoilt frames of ours are mostly text as well.
            cause = Cause.BAD_CABLE if self._is_noisy else cause_of_silence(self._heard)
            return SILENCES.get(cause, ""), cause
        cause = Cause.BAD_CABLE if self._is_noisy else Cause.NOT_ANSWERING
        return "the unit does not answer any more", cause

    def decided(self, decision: steps.Decision) -> steps.Effect:
        """Take the answer to the question that was asked."""
        match decision:
            case steps.Enrol(device_id=device_id):
                self.device_id = device_id
                return self._move(Event.ENROL)
            case steps.Resume(device_id=device_id, package=package):
                self.device_id, self._package = device_id, package
                return self._move(Event.RESUME)
            case steps.Issued(package=package):
                self._package = package
                self._outgoing = Outgoing(package.objects.items())
                return self._move(Event.ISSUED)
            case steps.Anew() if self._has_forgotten:
                return self._stop(Event.REFUSED, steps.KEPT_KEY, Cause.QUARANTINED)
            case steps.Anew():
                self._has_forgotten = True
                return self._move(Event.ANEW)
            case steps.Recorded():
                return self._move(Event.RECORDED)
            case steps.Hold(reason=reason, cause=cause):
                return self._stop(Event.HELD, reason, cause)
            case steps.Doubt(reason=reason, cause=cause):
                return self._stop(Event.DOUBTED, reason, cause)
            case steps.Refuse(reason=reason, cause=cause):
                return self._stop(Event.REFUSED, reason, cause)

    def _stop(self, event: Event, reason: str, cause: Cause) -> steps.Effect:
        self._cause = cause
        self._move_on(event, reason)
        return self._enter(self.step)

    def _move(self, event: Event) -> steps.Effect:
        if event in (Event.SPOILT, Event.TOO_LONG, Event.BUSY):
            self._setbacks += 1
            if self._setbacks > _MOST_SETBACKS:
                event, self._detail = Event.GONE, "the line or the unit spoils what is sent"
                self._cause = Cause.BAD_CABLE
        if event is Event.BUSY and self.step is not Step.BYE:
            return steps.Wait(seconds=_BUSY_SECONDS)
        self._begin_again(event)
        self._move_on(event, self._detail)
        return self._enter(self.step)

    def _move_on(self, event: Event, detail: str) -> None:
        self.step, self._detail = STEPS.get((self.step, event), Step.LOST), detail

    def _begin_again(self, event: Event) -> None:
        """What arrived otherwise than it was sent is moved once more, from its beginning."""
        match (self.step, event):
            case (Step.INSTALL, Event.SPOILT):
                self._written = 0
                self._outgoing = Outgoing(self.package.objects.items())
                self._carries_chain = True
            case (Step.INSTALL, Event.TOO_LONG):
                self._written = self._outgoing.total
                self._outgoing = Outgoing([self._chain_object()])
                self._carries_chain = False
            case (Step.WRITE, Event.SPOILT):
                self._outgoing.begin_again()
            case _:
                pass

    def _chain_object(self) -> tuple[ObjectId, bytes]:
        return ObjectId.STATION_CHAIN, encode_certificates(self._identity.chain)

    def _enter(self, step: Step) -> steps.Effect:
        """Return the effect that a step begins with."""
        if step in steps.ENDS:
            return steps.End(step=step, detail=self._detail, cause=self._cause)
        if step in steps.QUESTIONS:
            return self._question(step)
        if step is Step.READ:
            chunk = self.caller.pace.chunk
            return self.caller.ask(self._incoming.next(chunk), expects=chunk + MESSAGE_OVERHEAD)
        return self.caller.ask(self._request(step))

    def _request(self, step: Step) -> requests.Request:
        match step:
            case Step.HELLO | Step.CHECK:
                return requests.Hello(nonce=self._nonce)
            case Step.FORGET:
                return requests.Ident(device_id=steps.NOBODY)
            case Step.IDENT:
                return requests.Ident(device_id=self.device_id)
            case Step.WRITE:
                return self._outgoing.next(self.caller.pace.chunk)
            case Step.INSTALL:
                return self._install(carries_chain=self._carries_chain)
            case Step.PROVE:
                # The same nonce as in HELLO: the proof is bound to this session either way.
                return requests.Prove(nonce=self._nonce)
            case Step.COMMIT:
                return requests.Commit(fingerprint=self.package.fingerprint)
            case _:
                return requests.Status()

    def _install(self, *, carries_chain: bool) -> requests.Install:
        hashes = self.package.hashes
        text = station_text(self.caller.session, device_nonce=self.hello.nonce, hashes=hashes)
        chain = self._identity.chain if carries_chain else ()
        return requests.Install(hashes=hashes, signature=self._identity.sign(text), station_chain=chain)

    def _question(self, step: Step) -> steps.Question:
        hardware_id = self.hello.hardware_id
        match step:
            case Step.RECOGNISE:
                return steps.Recognise(hello=self.hello)
            case Step.ISSUE:
                return steps.Issue(
                    hardware_id=hardware_id, device_id=self.device_id, csr=self._incoming.octets
                )
            case Step.RECORD_PROOF:
                return steps.RecordProof(hardware_id=hardware_id, fingerprint=self.package.fingerprint)
            case _:
                return steps.RecordCommit(hardware_id=hardware_id, fingerprint=self.package.fingerprint)

    def _refused(self, rc: int) -> Event:
        unsupported = rc in (Rc.UNSUPPORTED, Rc.OFFSET)
        if self.step is Step.WRITE and unsupported and self._outgoing.begins is ObjectId.STATION_CHAIN:
            self._may_write_chain, self._carries_chain = False, True
            return self._outgoing.skip()
        name = Rc(rc).name.lower().replace("_", " ") if rc in REFUSALS else "unknown"
        self._detail = f"the unit refused {self.step} with rc {rc} ({name})"
        self._cause = REFUSAL_CAUSES.get(rc, Cause.NONE)
        return REFUSALS.get(rc, Event.REFUSED)

    def _judge(self, reply: replies.Reply) -> Event:
        match reply:
            case replies.HelloReply():
                return self._greeted(reply)
            case replies.IdentReply(length=length, digest=digest):
                self._incoming = Incoming(length=length, digest=digest)
                if length > MAX_CSR_BYTES:
                    return self._doubt("its request is too long", Cause.WRONG_REQUEST)
                return Event.ANSWERED
            case replies.ReadReply(octets=octets):
                return self._took(self._incoming.take(octets))
            case replies.WriteReply(offset=offset):
                return self._wrote(self._outgoing.take(offset))
            case replies.InstallReply(fingerprint=fingerprint, tofu=tofu):
                self.tofu = tofu
                return Event.ANSWERED if fingerprint == self.package.fingerprint else Event.SPOILT
            case replies.ProveReply(signature=signature):
                return self._proved(signature)
            case replies.CommitReply(state=state, fingerprint=fingerprint):
                right = state is LinkState.ACTIVE and fingerprint == self.package.fingerprint
                return Event.ANSWERED if right else Event.UNKNOWN_SESSION
            case (
                replies.StatusReply()
                | replies.AbortReply()
                | replies.AttestReply()
                | replies.AskReply()
                | replies.HearReply()
            ):
                return Event.ANSWERED

    def _doubt(self, reason: str, cause: Cause) -> Event:
        self._detail, self._cause = reason, cause
        return Event.DOUBTED

    def _greeted(self, hello: replies.HelloReply) -> Event:
        if self.step is Step.CHECK:
            return Event.ANSWERED if hello == self._hello else Event.UNKNOWN_SESSION
        self._hello = hello
        self.caller.pace.allow(hello.largest)
        return Event.NOISY if self._is_noisy else Event.ANSWERED

    def _took(self, event: Event) -> Event:
        if event is Event.COMPLETE and not is_request_sound(self._incoming.octets):
            return self._doubt("its request is not signed with the key in it", Cause.WRONG_REQUEST)
        return event

    def _wrote(self, event: Event) -> Event:
        """Where INSTALL would be too long with the station's chain, that goes ahead as an object."""
        if event is not Event.COMPLETE or not self._carries_chain or not self._may_write_chain:
            return event
        if self.caller.pace.fits(self.caller.length_of(self._install(carries_chain=True))):
            return event
        self._outgoing.add(*self._chain_object())
        self._carries_chain = False
        return Event.MORE

    def _proved(self, signature: bytes) -> Event:
        signed = proof_text(
            self.caller.session,
            station_nonce=self._nonce,
            device_nonce=self.hello.nonce,
            hashes=self.package.held,
            fingerprint=self.package.fingerprint,
        )
        if is_proof_right(self.package.leaf, signature=signature, signed=signed):
            return Event.ANSWERED
        # A CRC16 lets a broken answer pass now and then, so one wrong proof is not yet a wrong key.
        self._wrong_proofs += 1
        if self._wrong_proofs < _MOST_WRONG_PROOFS:
            return Event.SPOILT
        return self._doubt("it does not hold the key of its certificate", Cause.WRONG_PROOF)

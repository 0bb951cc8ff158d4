"""The device's half of the factory link: SMP messages in and out, one table of what is allowed when.

It never acts on what a station wrote before `station_transfer` found it right, and it deletes nothing:
what a station did not finish stays as it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from device_agent.core.station_transfer import Transfer, TransferError
from device_agent.core.station_trust import KeyMismatchError
from device_agent.core.station_unit import Unit, UnitReport
from device_agent.errors import AgentError, LockedError, RefusedError, UnacceptableAnswerError
from device_agent.wire import factory_replies as replies
from device_agent.wire import factory_requests as requests
from device_agent.wire import smp
from device_agent.wire.factory import Command, LinkState, Rc, proof_text, station_text
from device_agent.wire.factory_calls import (
    Call,
    CallId,
    call_id_of,
    encode_answer,
    encode_foreign_refusal,
    encode_parameters,
    parse_call,
)
from device_agent.wire.objects import ReadableId
from device_agent.wire.problems import MalformedMessageError

LARGEST_MESSAGE = 2048
"""What this device tells as `mx`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handled:
    """What came of one message: the answer to send, if any, and why the device refused, for its log."""

    answer: bytes | None = None
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The end of an enrollment over the factory link."""

    fingerprint: bytes
    station: str
    """Name in the certificate of the station that installed it; empty where another session did."""
    tofu: bool


_F, _K, _P, _A = LinkState.FRESH, LinkState.KEYED, LinkState.PENDING, LinkState.ACTIVE

_ALWAYS = (
    Command.HELLO,
    Command.ATTEST,
    Command.STATUS,
    Command.ABORT,
    Command.ASK,
    Command.HEAR,
)

TRANSITIONS: Mapping[tuple[LinkState, Command], frozenset[LinkState]] = {
    **{(state, command): frozenset({state}) for state in LinkState for command in _ALWAYS},
    (_F, Command.IDENT): frozenset({_K}),
    (_K, Command.IDENT): frozenset({_K}),
    (_P, Command.IDENT): frozenset({_P, _K}),
    (_A, Command.IDENT): frozenset({_K}),
    (_K, Command.READ): frozenset({_K}),
    (_P, Command.READ): frozenset({_P}),
    (_K, Command.WRITE): frozenset({_K}),
    (_P, Command.WRITE): frozenset({_P}),
    (_K, Command.INSTALL): frozenset({_P}),
    (_P, Command.INSTALL): frozenset({_P}),
    (_P, Command.PROVE): frozenset({_P}),
    (_A, Command.PROVE): frozenset({_A}),
    (_P, Command.COMMIT): frozenset({_A}),
    (_A, Command.COMMIT): frozenset({_A}),
}
"""Where a command may lead when it is done; a pair that is not here is refused with rc 2. A refused or
failed command leaves the state as it is. IDENT while pending keeps the slot for the same id only; IDENT
while active makes a second slot, and the active one lives until COMMIT."""

_RC_OF: Mapping[type[AgentError], Rc] = {
    KeyMismatchError: Rc.KEY_MISMATCH,
    UnacceptableAnswerError: Rc.UNAUTHORISED,
    RefusedError: Rc.UNAUTHORISED,
    LockedError: Rc.BUSY,
}
"""The first that fits; any other error of the device is rc 2."""


class StationLink:
    """One device at one end of a line. Bytes are cut into messages elsewhere."""

    def __init__(self, unit: Unit, *, group: int = smp.DEFAULT_GROUP) -> None:
        self._unit = unit
        self._group = group
        self._session = b""
        self._nonce = b""
        self._csr = b""
        self._transfer = Transfer()
        self._answered: tuple[CallId, bytes] | None = None
        self._station = ""
        self._tofu = False
        self._has_committed = False
        self._now: datetime | None = None
        self.committed: Committed | None = None
        """Set by a COMMIT that was done in this run."""
        self.is_over = False
        """The station went on after COMMIT: it has the answer, and nothing more will be asked."""

    def handle(self, message: bytes, *, nonce: bytes, now: datetime | None) -> Handled:
        """Take one message; return what came of it.

        `nonce` is 16 fresh random octets, used if this message opens a session; `now` is None where the
        device does not know the time.
        """
        self._now = now
        try:
            packet = smp.parse(message)
        except MalformedMessageError as error:
            return Handled(refused=str(error))
        if packet.header.op not in (smp.Op.READ, smp.Op.WRITE):
            return Handled()
        if packet.header.group != self._group:
            return Handled(answer=_answer_foreign(packet.header))
        return self._handle_call(packet, nonce)

    def _handle_call(self, packet: smp.Packet, nonce: bytes) -> Handled:
        call_id = call_id_of(packet)
        if call_id and self._answered and self._answered[0] == call_id:
            return Handled(answer=self._answered[1])
        try:
            call = parse_call(packet)
        except MalformedMessageError as error:
            # Not remembered: it may be noise that passed the CRC, and the true call is still to come.
            return Handled(answer=_refusal(packet, Rc.UNSUPPORTED), refused=str(error))
        reply, refused = self._judge(call, nonce)
        answer = encode_answer(packet.header, call.id, reply)
        if call.id.session == self._session:
            self._answered = (call.id, answer)
        return Handled(answer=answer, refused=refused)

    def _judge(self, call: Call, nonce: bytes) -> tuple[replies.Reply | replies.Refusal, str]:
        try:
            return self._perform(call, nonce), ""
        except MalformedMessageError as error:
            return replies.Refusal(rc=Rc.UNSUPPORTED), str(error)
        except TransferError as error:
            return replies.Refusal(rc=error.rc), str(error)
        except AgentError as error:
            return replies.Refusal(rc=_rc_of(error)), str(error)

    def _perform(self, call: Call, nonce: bytes) -> replies.Reply:
        if isinstance(call.request, requests.Hello) and call.id.session != self._session:
            self._open(call.id.session, nonce)
        if call.id.session != self._session:
            raise TransferError(Rc.SESSION, "the station speaks of a session that this device does not have")
        report = self._unit.report()
        if (report.state, call.request.command) not in TRANSITIONS:
            raise TransferError(
                Rc.STATE, f"{call.request.command.name} does not fit in state {report.state.name}"
            )
        return self._dispatch(call.request, report)

    def _open(self, session: bytes, nonce: bytes) -> None:
        self._session, self._nonce = session, nonce
        self._csr = b""
        self._transfer = Transfer()
        self._answered = None
        self._has_committed = False

    def _dispatch(self, request: requests.Request, report: UnitReport) -> replies.Reply:
        match request:
            case requests.Ident():
                return self._ident(request)
            case requests.Read():
                return self._read(request)
            case requests.Write():
                return replies.WriteReply(offset=self._transfer.write(request))
            case requests.Install():
                return self._install(request, report)
            case requests.Prove():
                return self._prove(request, report)
            case requests.Commit():
                return self._commit(request, report)
            case requests.Ask() | requests.Hear():
                raise TransferError(Rc.UNSUPPORTED, "this device speaks with the server by itself")
            case requests.Hello() | requests.Abort() | requests.Status() | requests.Attest():
                return self._tell(request, report)

    def _tell(
        self,
        request: requests.Hello | requests.Abort | requests.Status | requests.Attest,
        report: UnitReport,
    ) -> replies.Reply:
        match request:
            case requests.Hello():
                return self._hello(report)
            case requests.Abort():
                return self._abort()
            case requests.Status():
                self.is_over = self._has_committed
                return replies.StatusReply(state=report.state)
            case requests.Attest():
                raise TransferError(Rc.UNSUPPORTED, "this device has nothing that vouches for its hardware")

    def _hello(self, report: UnitReport) -> replies.HelloReply:
        return replies.HelloReply(
            nonce=self._nonce,
            hardware_id=report.hardware_id,
            device_id=report.device_id,
            model=report.model,
            state=report.state,
            fingerprint=report.fingerprint,
            largest=LARGEST_MESSAGE,
        )

    def _ident(self, request: requests.Ident) -> replies.IdentReply:
        self._csr = self._unit.request(request.device_id)
        return replies.IdentReply(length=len(self._csr), digest=sha256(self._csr).digest())

    def _read(self, request: requests.Read) -> replies.ReadReply:
        if request.object_id != ReadableId.CSR:
            raise TransferError(Rc.UNSUPPORTED, "the object is none that this device has")
        if not self._csr:
            raise TransferError(Rc.STATE, "READ comes before IDENT in this session")
        if request.offset > len(self._csr):
            raise TransferError(Rc.OFFSET, "READ begins behind the end")
        return replies.ReadReply(octets=self._csr[request.offset : request.offset + request.length])

    def _install(self, request: requests.Install, report: UnitReport) -> replies.InstallReply:
        if not self._csr:
            self._csr = self._unit.request(report.device_id)
        text = station_text(self._session, device_nonce=self._nonce, hashes=request.hashes)
        installation = self._transfer.judge(request, report, signed=text, csr=self._csr, now=self._now)
        self._unit.install(installation)
        self._station, self._tofu = installation.station, installation.tofu
        fingerprint = sha256(installation.chain[0]).digest()
        return replies.InstallReply(fingerprint=fingerprint, tofu=installation.tofu)

    def _prove(self, request: requests.Prove, report: UnitReport) -> replies.ProveReply:
        if report.hashes is None:
            raise TransferError(Rc.STATE, "the certificate was not installed over the factory link")
        text = proof_text(
            self._session,
            station_nonce=request.nonce,
            device_nonce=self._nonce,
            hashes=report.hashes,
            fingerprint=report.fingerprint,
        )
        return replies.ProveReply(signature=self._unit.sign(text))

    def _commit(self, request: requests.Commit, report: UnitReport) -> replies.CommitReply:
        if request.fingerprint != report.fingerprint:
            raise TransferError(Rc.STATE, "COMMIT names another certificate than the installed one")
        if report.state is not LinkState.ACTIVE:
            self._unit.commit()
        self._has_committed = True
        self.committed = Committed(fingerprint=report.fingerprint, station=self._station, tofu=self._tofu)
        return replies.CommitReply(state=LinkState.ACTIVE, fingerprint=report.fingerprint)

    def _abort(self) -> replies.AbortReply:
        self._transfer = Transfer()
        self._csr = b""
        return replies.AbortReply()


def _rc_of(error: AgentError) -> Rc:
    return next((rc for kind, rc in _RC_OF.items() if isinstance(error, kind)), Rc.STATE)


def _refusal(packet: smp.Packet, rc: Rc) -> bytes:
    return encode_answer(packet.header, call_id_of(packet), replies.Refusal(rc=rc))


def _answer_foreign(header: smp.Header) -> bytes:
    """Stock SMP clients ask for the buffer's size first; every other group is not here."""
    if (header.group, header.command, header.op) == (smp.OS_GROUP, smp.OS_PARAMETERS, smp.Op.READ):
        return encode_parameters(header, largest=LARGEST_MESSAGE)
    return encode_foreign_refusal(header, Rc.UNSUPPORTED)

"""One door for every channel: a request and who asks go in, a reply comes out, never an exception.

Channels translate to this and back; a rule exists once, behind it.
"""

import logging
import time
from collections.abc import Awaitable

from device_agent.wire import messages
from device_agent.wire.fields import MAX_BODY_BYTES
from device_agent.wire.messages import Reply, Request, UnsupportedTypeError, UnsupportedVersionError
from device_agent.wire.problems import MalformedMessageError, ProblemCode
from device_agent.wire.replies import Pending, Problem
from device_agent.wire.requests import Attest, Confirm, Done, Enroll, Renew, StatusQuery, TimeQuery
from device_agent.wire.steps import Step, step_of
from fleet.core.causes import of_problem
from fleet.core.history import contact
from fleet.errors import FleetError, RefusedError, log_level, problem_code
from fleet.log import Event, about
from fleet.model import BrokerEventKind
from fleet.ra.context import Asker, Context, Listener
from fleet.ra.meter import OK, PENDING
from fleet.ra.refusals import record_refusal
from fleet.ra.requests import confirm as confirming
from fleet.ra.requests.applicants import NOTHING_SAID, StationWord
from fleet.ra.requests.enroll import enroll
from fleet.ra.requests.evidence import challenge
from fleet.ra.requests.factory import confirm_unit
from fleet.ra.requests.held_trust import note_holding
from fleet.ra.requests.renew import renew
from fleet.ra.requests.speaker import speaker_of

_log = logging.getLogger(__name__)

_SHOWN_BY_TLS = frozenset({Listener.HTTPS, Listener.RECOVERY})
_MALFORMED = {
    UnsupportedVersionError: ProblemCode.UNSUPPORTED_VERSION,
    UnsupportedTypeError: ProblemCode.UNSUPPORTED_TYPE,
}


async def answer_body(
    context: Context, asker: Asker, body: bytes, *, word: StationWord = NOTHING_SAID
) -> Reply:
    """Answer the bytes of a request; what is no message gets a problem."""
    request = read(body)
    if isinstance(request, Problem):
        return request
    return await answer(context, asker, request, word=word)


async def answer_unit_confirm(context: Context, asker: Asker, body: bytes, *, serial: str) -> Reply:
    """Answer a station's `confirm` for a certificate that it enrolled."""
    request = read(body)
    if isinstance(request, Problem):
        return request
    if not isinstance(request, Confirm):
        return Problem.of(request.id, ProblemCode.MALFORMED, "type must be confirm")
    return await _guarded(context, asker, request, confirm_unit(context, asker, request, serial=serial))


def read(body: bytes) -> Request | Problem:
    """Return the request, or the problem that answers what is none."""
    if len(body) > MAX_BODY_BYTES:
        return Problem.of("-", ProblemCode.TOO_LARGE, f"body must not exceed {MAX_BODY_BYTES} bytes")
    try:
        return messages.parse_request(body)
    except MalformedMessageError as error:
        code = _MALFORMED.get(type(error), ProblemCode.MALFORMED)
        return Problem.of(messages.id_of(body), code, str(error))


async def answer(
    context: Context, asker: Asker, request: Request, *, word: StationWord = NOTHING_SAID
) -> Reply:
    """Answer a request; whatever goes wrong becomes a problem, and the service goes on."""
    return await _guarded(context, asker, request, _dispatch(context, asker, request, word))


async def _guarded(context: Context, asker: Asker, request: Request, doing: Awaitable[Reply]) -> Reply:
    begun = time.perf_counter()
    with context.tracer.span(f"channel {asker.listener}") as span:
        with context.tracer.span(f"ra {request.kind}"):
            reply = await _caught(context, asker, request, doing)
        span.note(**_who(asker, request), serial=getattr(reply, "serial", ""), outcome=_outcome(reply))
    seconds = time.perf_counter() - begun
    context.meter.answered(request.kind, _outcome(reply), seconds)
    _tell(asker, request, reply, seconds)
    if isinstance(reply, Problem):
        _note_contact(context, asker, reply)
    return reply


def _note_contact(context: Context, asker: Asker, problem: Problem) -> None:
    """Put the refusal of a certificate that HTTPS was shown into the connection history."""
    cause, shown = of_problem(problem.code), asker.certificate
    if cause is None or shown is None or asker.listener not in _SHOWN_BY_TLS:
        return
    refused = contact(
        kind=BrokerEventKind.REFUSED,
        place=asker.listener.value,
        at=context.clock(),
        cause=cause,
        issuer=shown.issuer,
        serial=shown.serial,
        address=asker.address,
    )
    context.history.note(refused)


def _tell(asker: Asker, request: Request, reply: Reply, seconds: float) -> None:
    """Log an answer, with the step that failed by the name that the device has for it."""
    problem = reply if isinstance(reply, Problem) else None
    event = about(
        Event.REQUEST_ANSWERED,
        **_who(asker, request),
        serial=getattr(reply, "serial", "") or _serial_of(asker),
        step=None if problem is None else step_of(problem.code),
        outcome=_outcome(reply),
        cause=None if problem is None else problem.detail,
        seconds=round(seconds, 6),
    )
    _log.info("%s answered", request.kind, extra=event)


def _who(asker: Asker, request: Request) -> dict[str, str]:
    """Return who asks what, as fields of the log."""
    identity = asker.identity
    device = request.device_id if isinstance(request, Enroll) else ""
    return {
        "device": device if identity is None else identity.device_id,
        "domain": asker.domain if identity is None else identity.domain,
        "channel": asker.listener.value,
        "address": asker.address,
        "kind": request.kind,
        "request": request.id,
    }


def _serial_of(asker: Asker) -> str:
    """Return the certificate that somebody asks with, or the empty text."""
    return asker.serial or ("" if asker.certificate is None else asker.certificate.serial)


def _outcome(reply: Reply) -> str:
    match reply:
        case Problem():
            return reply.code
        case Pending():
            return PENDING
        case _:
            return OK


async def _caught(context: Context, asker: Asker, request: Request, doing: Awaitable[Reply]) -> Reply:
    try:
        return await doing
    except RefusedError as error:
        await record_refusal(context, asker, request, error)
        return Problem.of(request.id, error.code, str(error))
    except FleetError as error:
        failed = about(Event.REQUEST_FAILED, **_who(asker, request), step=step_of(problem_code(error)))
        _log.log(log_level(error), "%s: %s", request.kind, error, extra=failed)
        return Problem.of(request.id, problem_code(error), "the server cannot do this now")
    except Exception:  # noqa: BLE001 - the outermost edge of one request; others must not suffer from it
        failed = about(Event.REQUEST_FAILED, **_who(asker, request), step=Step.SIGN)
        _log.exception("%s failed", request.kind, extra=failed)
        return Problem.of(request.id, ProblemCode.UNAVAILABLE, "the server failed over this request")


async def _dispatch(context: Context, asker: Asker, request: Request, word: StationWord) -> Reply:
    if isinstance(request, Attest):
        return await challenge(context, asker, request)
    if isinstance(request, Enroll):
        return await enroll(context, asker, request, word=word)
    speaker = await speaker_of(context, asker)
    match request:
        case Renew():
            await note_holding(context, speaker, request)
            return await renew(context, speaker, request)
        case Confirm():
            return await confirming.confirm(context, speaker, request)
        case Done():
            await note_holding(context, speaker, request)
            return await confirming.done(context, speaker, request)
        case StatusQuery():
            return await confirming.status(context, speaker, request)
        case TimeQuery():
            return await confirming.tell_time(context, speaker, request)

"""Asks a company's own service before a first certificate is signed: it may say no, or tell of the device.

Both directions are signed with a secret that both know (HMAC-SHA256 over time and body), and an answer
belongs to one question. Whatever goes wrong refuses: no answer is never a yes. A service that hangs is left
alone for a while, and only so many requests ever wait for it, so that everybody else is answered meanwhile.
"""

import hashlib
import hmac
import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from types import MappingProxyType

from device_agent.wire.fields import Fields, parse_object, time_text
from device_agent.wire.identity import Identity, parse_domain
from device_agent.wire.problems import MalformedMessageError, ProblemCode
from device_agent.wire.secret import Secret
from fleet.errors import FleetError, RefusedError
from fleet.model import Assurance
from fleet.ports import Clock, HookCaller, HookReply
from fleet.store.codes import GrantKind

SIGNATURE = "Fleet-Signature"
WINDOW = timedelta(minutes=5)
"""How far the clocks of both sides may differ, and how long a signed question is good."""
MAX_ANSWER_BYTES = 16 * 1024
MAX_ATTRIBUTES = 32

_log = logging.getLogger(__name__)

_QUESTION, _ANSWER = b"fleet-webhook-question-v1", b"fleet-webhook-answer-v1"
_HEADER = re.compile(r"t=(\d{1,12}),v1=([0-9a-f]{64})", re.ASCII)
_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}", re.ASCII)
_MEMBERS = frozenset({"v", "id", "decision", "reason", "attributes", "tags", "profile", "name"})
_LONGEST_VALUE = 256
_AT_ONCE = 16
_FAILURES = 3
_REST = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class HookRules:
    """What an answer may set, whatever it says."""

    may_set: frozenset[str] = frozenset()
    """Of `attributes`, `tags`, `profile`, `name`."""
    profiles: frozenset[str] = frozenset()
    """The only ones that it may choose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HookQuestion:
    """What is known of a request that would be signed next."""

    identity: Identity
    key_hash: str
    kind: GrantKind
    assurance: Assurance
    evidence: str
    batch: str
    profile: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HookSaid:
    """A yes, with what it tells of the device. Empty: nothing was told."""

    attributes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    profile: str = ""


class AskFirstError(Exception):
    """Raised out of a unit of work, which it undoes: the service has to be asked first."""

    def __init__(self, question: HookQuestion) -> None:
        super().__init__("the webhook is asked first")
        self.question = question


class Webhook:
    """The one service that is asked."""

    def __init__(
        self,
        caller: HookCaller,
        rules: HookRules,
        *,
        fleet: str,
        secret: Secret,
        clock: Clock,
        randomness: Callable[[int], bytes],
    ) -> None:
        self._caller, self._rules, self._fleet = caller, rules, fleet
        self._key, self._clock, self._randomness = secret, clock, randomness
        self._waiting = 0
        self._failures = 0
        self._rests_until: datetime | None = None

    async def ask(self, question: HookQuestion) -> HookSaid:
        """Return what the service says to a request that it allows.

        Raises:
            RefusedError: it says no; or it does not answer as it should, and the request may come again.
        """
        now = self._clock()
        if self._rests_until is not None and now < self._rests_until:
            raise _not_now("the webhook failed a moment ago, and is left alone for a while")
        if self._waiting >= _AT_ONCE:
            raise _not_now("too many requests wait for the webhook", code=ProblemCode.BUSY)
        self._waiting += 1
        try:
            said = await self._asked(question)
        except (FleetError, MalformedMessageError) as error:
            self._note_failure()
            raise _no_answer(error) from error
        finally:
            self._waiting -= 1
        self._failures, self._rests_until = 0, None
        return self._judged(said)

    async def _asked(self, question: HookQuestion) -> Fields:
        question_id = self._randomness(16).hex()
        body = self._body(question, question_id)
        at = int(self._clock().timestamp())
        headers = {SIGNATURE: signed(self._key, at=at, body=body), "Content-Type": "application/json"}
        reply = await self._caller.post(body, headers)
        if reply.status != HTTPStatus.OK:
            raise MalformedMessageError(f"its status is {reply.status}, and 200 is wanted")
        self._verify(reply, question_id)
        said = parse_object(reply.body)
        if said.integer("v", lowest=0, highest=255) != 1 or said.text("id", longest=64) != question_id:
            raise MalformedMessageError("it answers another question, or in another version")
        if strange := said.names() - _MEMBERS:
            raise MalformedMessageError(f"it has a member that is not known: {sorted(strange)[0][:64]!a}")
        return said

    def _body(self, question: HookQuestion, question_id: str) -> bytes:
        members = {
            "v": 1,
            "id": question_id,
            "type": "enroll",
            "at": time_text(self._clock()),
            "fleet": self._fleet,
            "domain": question.identity.domain,
            "device_id": question.identity.device_id,
            "key_hash": question.key_hash,
            "proof": question.kind.value,
            "assurance": question.assurance.word,
            "evidence": question.evidence,
            "batch": question.batch or None,
            "profile": question.profile,
            "address": question.address or None,
        }
        return json.dumps(members).encode()

    def _verify(self, reply: HookReply, question_id: str) -> None:
        match = _HEADER.fullmatch(reply.signature)
        if match is None:
            raise MalformedMessageError(f"it has no {SIGNATURE}: t=<seconds>,v1=<hex>")
        at = int(match[1])
        if abs(self._clock().timestamp() - at) > WINDOW.total_seconds():
            raise MalformedMessageError("its signature is of another time")
        wanted = signed(self._key, at=at, body=reply.body, answers=question_id)
        if not hmac.compare_digest(wanted, reply.signature):
            raise MalformedMessageError("its signature is wrong")

    def _judged(self, said: Fields) -> HookSaid:
        """Return a yes within what policy allows; one that goes beyond it refuses as well."""
        try:
            decision = said.text("decision", longest=16)
            if decision == "refuse":
                reason = (
                    said.text("reason", longest=_LONGEST_VALUE) if "reason" in said else "without a reason"
                )
                raise RefusedError(f"the webhook refuses: {reason}")
            if decision != "allow":
                raise MalformedMessageError("its decision is neither allow nor refuse")
            return self._allowed(said)
        except MalformedMessageError as error:
            raise _no_answer(error) from error

    def _allowed(self, said: Fields) -> HookSaid:
        given = {name for name in ("attributes", "tags", "profile", "name") if name in said}
        if beyond := given - self._rules.may_set:
            raise MalformedMessageError(f"it may not set {sorted(beyond)[0]}")
        profile = parse_domain(said.text("profile", longest=32)) if "profile" in said else ""
        if profile and profile not in self._rules.profiles:
            raise MalformedMessageError(f"it may not choose the profile {profile}")
        return HookSaid(attributes=_attributes(said), profile=profile)

    def _note_failure(self) -> None:
        self._failures += 1
        if self._failures >= _FAILURES:
            self._rests_until = self._clock() + _REST


def signed(secret: Secret, *, at: int, body: bytes, answers: str = "") -> str:
    """Return the signature header of a question, or of the answer to one.

    `at` counts seconds since 1970; `answers` is the id of the question that the body answers.
    """
    kind = _ANSWER if answers else _QUESTION
    text = b"\0".join((kind, str(at).encode(), answers.encode(), body))
    return f"t={at},v1={hmac.digest(secret.reveal().encode(), text, hashlib.sha256).hex()}"


def _attributes(said: Fields) -> dict[str, str]:
    found: dict[str, str] = {}
    if "attributes" in said:
        given = said.object("attributes")
        if len(given.names()) > MAX_ATTRIBUTES or not all(_NAME.fullmatch(each) for each in given.names()):
            raise MalformedMessageError(
                f"attributes must be at most {MAX_ATTRIBUTES}, with names of a-z, 0-9, _ . -"
            )
        found |= {name: given.text(name, longest=_LONGEST_VALUE) for name in given.names()}
    if "tags" in said:
        tags = said.texts("tags", longest=64)
        found["tags"] = " ".join(sorted({tag for tag in tags if _NAME.fullmatch(tag)}))
        if len(found["tags"].split()) != len(set(tags)):
            raise MalformedMessageError("tags must be words of a-z, 0-9, _ . -")
    if "name" in said:
        found["name"] = said.text("name", longest=_LONGEST_VALUE)
    return found


def _no_answer(error: Exception) -> RefusedError:
    """Return what the device is told; why, is for our log: it may name what stands inside a network."""
    _log.warning("the webhook gave no answer that counts: %s", error)
    return _not_now("the webhook gave no answer that counts")


def _not_now(message: str, *, code: ProblemCode = ProblemCode.UNAVAILABLE) -> RefusedError:
    return RefusedError(message, code=code)

"""Lets a request that is sent again act once: what was answered is kept for a day under the asker's key.

An answer may hold a one-time code or a private key, so it is kept sealed; the key that opens it is a file
of the home, never in the database. Whoever repeats a request gets the very octets of the first answer.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fleet.errors import NotFoundError
from fleet.files import read_secret_bytes, write_file
from fleet.home import Home
from fleet.ra.desk import Desk
from fleet.store.answers import AnswerRecord, Claim, claim_key, keep_answer, release_key

KEPT_FOR = timedelta(hours=24)
MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""A longer answer is not kept; its repeat is told so, and does not act."""

_KEY_BYTES = 32
_NONCE_BYTES = 12
_RUN_BYTES = 8
_STATUS_DIGITS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An HTTP answer, as it was sent."""

    status: int
    content_type: str
    body: bytes


class NotNow(Enum):
    """Why a request with a known key neither acts nor gets its answer."""

    OTHER_REQUEST = "another request"
    UNDERWAY = "under way"
    INTERRUPTED = "interrupted"
    TOO_LONG = "too long"


class Repeats:
    """The requests of the last day that came with a key."""

    def __init__(self, desk: Desk, secret: bytes) -> None:
        self._desk = desk
        self._cipher = AESGCM(secret)
        self._run = desk.randomness(_RUN_BYTES).hex()

    async def begin(self, operator: str, key: str, request_hash: str) -> AnswerRecord | Kept | NotNow:
        """Return a record to act under, or what is known of the earlier request with this key."""
        now = self._desk.clock()
        record = AnswerRecord(
            operator=operator,
            key_hash=hashlib.sha256(key.encode()).hexdigest(),
            request_hash=request_hash,
            run=self._run,
            asked_at=now,
        )
        claim = Claim(record=record, forget_before=now - KEPT_FOR)
        earlier = await self._desk.store.write(claim_key, claim)
        return record if earlier is None else self._judge(earlier, record)

    async def keep(self, record: AnswerRecord, answer: Kept) -> None:
        """Keep the answer of what was done under a record."""
        sealed = self._seal(record, answer)
        await self._desk.store.write(keep_answer, replace(record, answer=sealed))

    async def release(self, record: AnswerRecord) -> None:
        """Give the key back: the request was refused, and nothing was done."""
        await self._desk.store.write(release_key, record)

    def _judge(self, earlier: AnswerRecord, record: AnswerRecord) -> Kept | NotNow:
        if earlier.request_hash != record.request_hash:
            return NotNow.OTHER_REQUEST
        if earlier.answer is None:
            return NotNow.UNDERWAY if earlier.run == self._run else NotNow.INTERRUPTED
        return self._open(earlier) or NotNow.TOO_LONG

    def _seal(self, record: AnswerRecord, answer: Kept) -> bytes:
        head = f"{answer.status:03}{answer.content_type}\n".encode()
        text = head + answer.body if len(answer.body) <= MAX_ANSWER_BYTES else b""
        nonce = self._desk.randomness(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, text, _place(record))

    def _open(self, record: AnswerRecord) -> Kept | None:
        """Return the answer; None where it was too long, or the file with the key was lost since."""
        sealed = record.answer or b""
        try:
            text = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _place(record))
        except (InvalidTag, ValueError):
            return None
        head, _, body = text.partition(b"\n")
        if not head:
            return None
        content_type = head[_STATUS_DIGITS:].decode()
        return Kept(status=int(head[:_STATUS_DIGITS]), content_type=content_type, body=body)


def load_secret(home: Home, desk: Desk) -> bytes:
    """Return the key that seals answers; it is made when it is missing. Raises `FleetError`."""
    try:
        found = read_secret_bytes(home.answers_key)
    except NotFoundError:
        found = b""
    if len(found) != _KEY_BYTES:
        found = desk.randomness(_KEY_BYTES)
        write_file(home.answers_key, found)
    return found


def _place(record: AnswerRecord) -> bytes:
    """Bind an answer to its row, so that none can be moved to another's."""
    return f"{record.operator}\n{record.key_hash}\n{record.request_hash}".encode()

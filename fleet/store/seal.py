"""Signs a head of the audit trail's tree with every commit, and keeps the newest one outside of the database.

Without that file, whoever cuts off the end of the database together with its heads would not be caught.
"""

import base64
import json
from collections.abc import Callable
from pathlib import Path

from device_agent.wire.fields import Fields, parse_object, time_text
from device_agent.wire.problems import MalformedMessageError
from fleet.core.audit import SignedHead, TreeHead
from fleet.errors import BadInputError, FleetError, NeedsAttentionError, StoreError
from fleet.files import write_file
from fleet.ports import Clock, Transaction
from fleet.store import audit

_LONGEST_SIGNATURE = 1024
_LARGEST_SIZE = 2**53


class AuditSeal:
    """What the store calls with every commit: `sign` within, `committed` after, `keep` from time to time."""

    def __init__(
        self, *, log: str, sign: Callable[[bytes], bytes], clock: Clock, head_file: Path | None = None
    ) -> None:
        self._log = log
        self._sign = sign
        self._clock = clock
        self._head_file = head_file
        self._signed: SignedHead | None = None
        self._newest: SignedHead | None = None
        self._problem: str | None = None
        """Why the head outside must stay as it is; None until it was compared."""

    async def sign(self, tx: Transaction) -> None:
        """Sign a head over all entries, if there are more than under the newest one.

        Raises:
            StoreError: the audit key cannot be used, or the tree is damaged.
        """
        if self._problem is None:
            self._problem = await self._compare(tx)
        if await _is_signed_over(tx, await audit.count_entries(tx)):
            return
        frontier = await audit.load_frontier(tx)
        if await _is_signed_over(tx, frontier.size):
            return
        head = TreeHead(log=self._log, size=frontier.size, root=frontier.root(), at=self._clock())
        self._signed = SignedHead(head=head, signature=self._signature(head))
        await audit.save_head(tx, self._signed)

    def committed(self) -> None:
        """Take what was signed for the newest head."""
        self._newest = self._signed

    def keep(self) -> None:
        """Write the newest head to its file, atomically; blocks.

        Raises:
            NeedsAttentionError: the trail is not the one of the head that was kept, which is evidence.
            FleetError: the file cannot be written.
        """
        if self._head_file is None or self._newest is None:
            return
        if self._problem:
            raise NeedsAttentionError(self._problem, hint="fleet audit verify")
        write_file(self._head_file, head_text(self._newest).encode())

    async def _compare(self, tx: Transaction) -> str:
        """Say why the trail does not carry on from the head outside, or nothing.

        Whoever cut the trail off would otherwise only have to wait until a shorter one is kept.
        """
        if self._head_file is None:
            return ""
        try:
            kept = read_head(self._head_file)
            self._signed = self._newest = await audit.newest_head(tx, self._log)
            if kept is None or await audit.root_at(tx, kept.head.size) == kept.head.root:
                return ""
        except FleetError as error:
            return str(error)
        return f"the audit trail is not the one of {self._head_file}"

    def _signature(self, head: TreeHead) -> bytes:
        try:
            return self._sign(head.message())
        except Exception as error:
            raise StoreError("the audit key does not sign", hint="fleet doctor") from error


async def _is_signed_over(tx: Transaction, size: int) -> bool:
    return size == 0 or await audit.has_head(tx, size)


def head_text(signed: SignedHead) -> str:
    """Return a signed head as JSON text."""
    return json.dumps(head_members(signed), indent=2) + "\n"


def head_line(signed: SignedHead) -> str:
    """Return a signed head as JSON on one line, without its end."""
    return json.dumps(head_members(signed))


def head_members(signed: SignedHead) -> dict[str, str | int]:
    """Return a signed head as the members of JSON."""
    head = signed.head
    return {
        "log": head.log,
        "size": head.size,
        "root": head.root.hex(),
        "at": time_text(head.at),
        "signature": base64.b64encode(signed.signature).decode(),
    }


def parse_head(content: bytes) -> SignedHead:
    """Return the signed head that a file holds; the signature is still to be checked.

    Raises:
        BadInputError: it is none.
    """
    try:
        fields = parse_object(content)
        return SignedHead(
            head=_head(fields), signature=fields.base64("signature", longest=_LONGEST_SIGNATURE)
        )
    except MalformedMessageError as error:
        raise BadInputError(f"the audit head is damaged: {error}", hint="fleet audit verify") from error


def read_head(path: Path) -> SignedHead | None:
    """Return the head that was kept in a file, or None where there is no file.

    Raises:
        BadInputError: the file is damaged, or cannot be read.
    """
    try:
        return parse_head(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}", hint="check its owner") from error


def _head(fields: Fields) -> TreeHead:
    return TreeHead(
        log=fields.text("log", longest=32),
        size=fields.integer("size", lowest=1, highest=_LARGEST_SIZE),
        root=bytes.fromhex(fields.sha256("root")),
        at=fields.time("at"),
    )

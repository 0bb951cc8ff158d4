"""Ships a log to the server in batches: what was sent and not answered is sent again, as the same batch.

The place is written before a batch is sent and after it was taken, so a crash in between sends the very same
lines again, which the server counts once.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from fleet.cli.client import Client
from fleet.errors import BadInputError, UnreachableError
from fleet.files import write_file
from fleet.log_following import Chunk, read_on

_LOOK_SECONDS = 1.0
_AGAIN_SECONDS = 5.0
_MAX_STATE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Up to where a log was taken, and where the batch ends that was sent last."""

    beginning: str = ""
    position: int = 0
    sent: int = 0


def ship_log(
    client: Client, file: Path, *, product: str, name: str, state: Path, once: bool
) -> Iterator[str]:
    """Ship what is in a log and what comes, telling what happens; without an end, unless once.

    Raises:
        FleetError: the server refuses the lines, or the state file is none.
    """
    known = load(state)
    while True:
        chunk = _next(file, known)
        if chunk is None:
            if once:
                return
            time.sleep(_LOOK_SECONDS)
            continue
        known = State(beginning=chunk.beginning, position=chunk.start, sent=chunk.position)
        save(state, known)
        try:
            found = _send(client, chunk, product=product, name=name)
        except UnreachableError as error:
            if once:
                raise
            yield f"{error}; trying again"
            time.sleep(_AGAIN_SECONDS)
            continue
        known = State(beginning=chunk.beginning, position=chunk.position)
        save(state, known)
        if found:
            yield f"{found} refusals in {len(chunk.lines)} lines"


def _next(file: Path, known: State) -> Chunk | None:
    """Return the next lines; where a batch was sent and not answered, the same lines again."""
    try:
        chunk = read_on(file, beginning=known.beginning, position=known.position)
        if chunk is None or chunk.beginning != known.beginning:
            return chunk
        if not chunk.start < known.sent < chunk.position:
            return chunk
        most = known.sent - chunk.start
        return read_on(file, beginning=known.beginning, position=known.position, most=most)
    except OSError as error:
        raise BadInputError(f"{file} cannot be read: {(error.strerror or 'error').lower()}") from error


def _send(client: Client, chunk: Chunk, *, product: str, name: str) -> int:
    offset = datetime.now(UTC).astimezone().utcoffset()
    found = client.post_text(
        "monitor",
        "lines",
        body=b"\n".join(chunk.lines) + b"\n",
        log=name,
        product=product,
        batch=hashlib.sha256(f"{chunk.beginning} {chunk.start} {chunk.position}".encode()).hexdigest(),
        east_of_utc=0 if offset is None else int(offset.total_seconds()),
    )
    return int(str(found["found"]))


def load(path: Path) -> State:
    """Return what a state file says; a new one where there is none.

    Raises:
        BadInputError: it is no state file.
    """
    try:
        with path.open("rb") as file:
            members: object = json.loads(file.read(_MAX_STATE))
    except FileNotFoundError:
        return State()
    except (OSError, ValueError) as error:
        raise BadInputError(f"{path} is no state of this command", hint="name another file") from error
    match members:
        case {"beginning": str() as beginning, "position": int() as position, "sent": int() as sent}:
            return State(beginning=beginning, position=position, sent=sent)
        case _:
            raise BadInputError(f"{path} is no state of this command", hint="name another file")


def save(path: Path, state: State) -> None:
    """Write a state, durably."""
    write_file(path, json.dumps(asdict(state)).encode() + b"\n")

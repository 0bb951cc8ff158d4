"""Operators' routes of blocked keys: those that are never certified again."""

from device_agent.wire.fields import time_text
from fleet.model import Role
from fleet.ra.people.blocked_keys import KeyBlock, block_keys, list_blocked_keys
from fleet.store.keys import BlockedKey, KeyQuery
from fleet.web.api.asked import Asked
from fleet.web.api.routes import Members, One, Page, Route, listed

_LONGEST_REASON = 200


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="GET",
            path="keys/blocked",
            role=Role.VIEWER,
            handler=_list,
            about="Keys that are never certified again, by hash, and why.",
            answer=Page("BlockedKey"),
        ),
        Route(
            method="POST",
            path="keys/block",
            role=Role.SECURITY,
            handler=_block,
            about="Block keys for good; what is in force with one stays so until it is revoked.",
            body=("key_hashes", "reason"),
            needs=frozenset({"key_hashes", "reason"}),
            answer=One("KeysBlocked"),
        ),
    )


async def _list(asked: Asked) -> Members:
    query = asked.query()
    wanted = KeyQuery(after=query.text("after"), limit=query.limit())
    found = await list_blocked_keys(asked.context, wanted)
    return listed(
        [_blocked(key) for key in found], found[-1].key_hash if len(found) == wanted.limit else None
    )


async def _block(asked: Asked) -> Members:
    body = asked.body()
    block = KeyBlock(
        key_hashes=body.sha256s("key_hashes"),
        reason=body.text("reason", longest=_LONGEST_REASON),
        actor=asked.actor,
    )
    blocked = await block_keys(asked.context, block)
    return {"blocked": blocked.new, "known": blocked.known, "in_force": list(blocked.in_force)}


def _blocked(key: BlockedKey) -> Members:
    return {
        "key_hash": key.key_hash,
        "reason": key.reason,
        "blocked_at": time_text(key.blocked_at),
        "blocked_by": key.blocked_by,
    }

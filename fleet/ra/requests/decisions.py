"""Keeps a sample of what brokers allowed and denied, for trying a changed policy on; it holds nothing up."""

import asyncio
import logging
from collections import Counter
from contextlib import suppress

from fleet.errors import FleetError
from fleet.grants import TopicDecision
from fleet.ports import TellingBroker
from fleet.ra.desk import Desk
from fleet.store.topic_decisions import Sighting, note_decisions

_GATHER_SECONDS = 1.0
_MOST_AT_ONCE = 500

_log = logging.getLogger(__name__)


async def keep_decisions(desk: Desk, broker: TellingBroker) -> None:
    """Follow one broker's decisions until cancelled; many go into one commit."""
    while True:
        counts = await _gathered(broker)
        try:
            await desk.store.write(note_decisions, Sighting(counts=counts, at=desk.clock()))
        except FleetError as error:
            _log.warning("%d decisions of the broker could not be kept: %s", len(counts), error)


async def _gathered(broker: TellingBroker) -> Counter[TopicDecision]:
    """Wait for a decision, and return it with those that follow within a moment."""
    counts: Counter[TopicDecision] = Counter()
    async for decision in broker.decisions():
        counts[decision] += 1
        break
    with suppress(TimeoutError):
        async with asyncio.timeout(_GATHER_SECONDS):
            async for decision in broker.decisions():
                counts[decision] += 1
                if len(counts) >= _MOST_AT_ONCE:
                    break
    return counts

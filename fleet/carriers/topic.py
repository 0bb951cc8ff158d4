"""MQTT: a notification as a CloudEvent, published at our own broker for services that may read it.

It is not retained: it tells what happened, not how things are. A service that keeps its session misses none.
"""

from fleet.channel_sections import TopicConfig
from fleet.core.letter import Letter
from fleet.ra.post import Post


class TopicCarrier:
    """`ra.carrier.Carrier` by MQTT, with quality of service 1."""

    def __init__(self, settings: TopicConfig, *, publish: Post) -> None:
        self._settings, self._publish = settings, publish

    async def carry(self, letter: Letter, address: str) -> str:
        """Return the topic, once the broker has the message; raises as `Carrier` says."""
        topic = self._settings.prefix + ("test" if letter.matter is None else letter.matter.value)
        await self._publish(topic, letter.cloud_event())
        return f"published on {topic}"

    def check(self) -> None:
        """Need nothing: the broker is ours, and has a check of its own."""

"""The server's own way to its broker: one client, which is made after the use cases that it answers by."""

from dataclasses import dataclass

from fleet.channels.mqtt import Consumer
from fleet.ra.post import no_post


@dataclass(slots=True)
class Way:
    """As long as there is no client, nothing can be posted."""

    consumer: Consumer | None = None

    def is_open(self) -> bool:
        """Tell whether requests over MQTT reach us now."""
        return self.consumer is not None and self.consumer.connected

    async def post(self, topic: str, body: bytes) -> None:
        """Leave a retained message; raises `UnreachableError`."""
        await (no_post if self.consumer is None else self.consumer.post)(topic, body)

    async def publish(self, topic: str, body: bytes) -> None:
        """Publish a message that nobody retains; raises `UnreachableError`."""
        await (no_post if self.consumer is None else self.consumer.publish)(topic, body)

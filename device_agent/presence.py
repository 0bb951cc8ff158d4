"""How a device shows itself on the operational connection: its state, the notices to it, its application.

Nothing that arrives here changes a slot: a notice can make a renewal earlier or later, set how often the
device speaks, and bring trust bundles to be judged, no more.
"""

import logging

from device_agent import __version__
from device_agent.core.trust import Source
from device_agent.errors import ChannelError, StateError
from device_agent.life import Life
from device_agent.meter import Meter
from device_agent.ports import Link
from device_agent.signals import Brought, Signals
from device_agent.traffic import Traffic
from device_agent.wire.notices import Notice, StateReport
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.topics import OperationalTopics

_log = logging.getLogger(__name__)


class Presence:
    """Uses the connection beside the requests."""

    def __init__(self, life: Life, traffic: Traffic, *, signals: Signals, meter: Meter) -> None:
        self._life, self._traffic, self._signals, self._meter = life, traffic, signals, meter
        self._notice_topic = ""
        self._open: tuple[Link, OperationalTopics] | None = None

    async def opened(self, link: Link, topics: OperationalTopics) -> None:
        """Subscribe, and tell the state; where that fails, the connection ends and the next one does it."""
        self._notice_topic, self._open = topics.notice, (link, topics)
        self._signals.is_connected = True
        self._meter.connected()
        try:
            await link.subscribe(topics.notice)
            await self._traffic.attach(link, topics)
            await self.report()
        except ChannelError as error:
            _log.warning("%s", error)

    async def report(self) -> None:
        """Tell the state, if there is a connection; raises `ChannelError`."""
        if self._open is not None:
            link, topics = self._open
            await link.publish(topics.state, self._report(topics.serial).encode(), retain=True)

    async def closing(self) -> None:
        """Let go of the connection, which is closed next."""
        self._open = None
        await self._traffic.detach()
        self._signals.is_connected = False

    def lost(self, why: str) -> None:
        """Hear that the connection has ended by itself."""
        self._open = None
        self._signals.is_connected = False
        self._traffic.drop()
        self._signals.lost = why
        self._signals.ring()

    def message(self, topic: str, payload: bytes) -> None:
        """Take a message that is no reply."""
        if topic == self._notice_topic:
            self._take_notice(payload)
        elif not self._traffic.take(topic, payload):
            _log.info("ignored a message on %s", topic)

    def _take_notice(self, payload: bytes) -> None:
        try:
            notice = Notice.parse(payload)
            self._signals.brought += [
                Brought(bundle=bundle, source=Source.NOTICE) for bundle in notice.bundles
            ]
            if notice.configuration is not None:
                self._signals.configuration = notice.configuration
            self._life.wish(notice.serial, notice.renew_after)
        except (MalformedMessageError, StateError) as error:
            _log.warning("ignored a notice: %s", error)
        else:
            self._signals.ring()

    def _report(self, serial: str) -> StateReport:
        record = self._life.record
        return StateReport(
            agent=__version__,
            serial=serial,
            anchors=tuple(anchor.fingerprint for anchor in record.life.anchors),
            trust=record.trust_versions,
            problem=self._signals.word,
            counters=self._meter.tally.totals(),
            time_source=self._life.moment().source.value,
            configuration=self._signals.configured,
        )

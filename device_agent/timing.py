"""Asks the server what time it is, where nobody knows it better; what is not believed changes nothing."""

import logging
from collections.abc import Callable

from device_agent.core.certificates import read_bundle
from device_agent.core.signed_time import TimeAsked, require_signed
from device_agent.errors import ChannelError, UntrustedTimeError
from device_agent.life import Life
from device_agent.ports import Asker, Clock
from device_agent.signals import Signals
from device_agent.wire.fields import time_text
from device_agent.wire.replies import Time
from device_agent.wire.requests import TimeQuery

_log = logging.getLogger(__name__)

NONCE_BYTES = 32


class Timing:
    """The questions of one device for the time. `new_nonce` gives so many random bytes."""

    def __init__(
        self,
        life: Life,
        clock: Clock,
        *,
        signals: Signals,
        new_id: Callable[[], str],
        new_nonce: Callable[[int], bytes],
    ) -> None:
        self._life, self._clock, self._signals = life, clock, signals
        self._new_id, self._new_nonce = new_id, new_nonce

    async def learn(self, asker: Asker) -> None:
        """Ask over a way that is open, if it is due; asked in vain, it is due again."""
        record = self._life.record
        if not self._clock.is_due() or record.fleet is None or record.domain is None:
            return
        asked = TimeAsked(
            fleet=record.fleet,
            domain=record.domain,
            nonce=self._new_nonce(NONCE_BYTES),
            anchors=tuple(read_bundle(anchor.pem, most=1)[0] for anchor in record.life.anchors),
        )
        try:
            reply = await asker.ask(TimeQuery(id=self._new_id(), nonce=asked.nonce))
        except ChannelError as error:
            _log.info("%s; the time stays as it was believed", error)
            return
        if isinstance(reply, Time):
            self._take(reply, asked)
        else:
            _log.info("the server tells no time: it answered with %s", reply.kind)

    def _take(self, reply: Time, asked: TimeAsked) -> None:
        try:
            require_signed(reply, asked)
            self._clock.hear(reply.now)
        except UntrustedTimeError as error:
            _log.warning("%s", error)
            self._signals.time_doubt = "time-not-believed"
        else:
            _log.info("the server's signed time is %s", time_text(reply.now))
            self._signals.time_doubt = None

"""Turns a message of MQTT into a question with an asker, and the reply back into a message.

The topic says who asks, because the broker's guard lets nobody else publish there; the answer's topic is
derived from it, never read from a body.
"""

import logging

from device_agent.wire import topics
from device_agent.wire.identity import Identity
from device_agent.wire.messages import encode
from device_agent.wire.problems import MalformedMessageError
from fleet.channels.mqtt import Answer, Answerer
from fleet.ra.context import Asker, Context, Listener
from fleet.ra.requests.answer import answer_body
from fleet.ra.requests.held_trust import note_state

REQUEST_TOPICS = (
    # At most once: an enrollment may hold a code, and what a broker keeps for us it may write to its disk.
    (topics.ENROLL_REQUESTS, 0),
    (topics.OPERATIONAL_REQUESTS, 1),
    # Retained: after each start every device's last word comes again.
    (topics.DEVICE_STATES, 1),
)

_log = logging.getLogger(__name__)


def answerer(context: Context) -> Answerer:
    """Return what a consumer calls with each message."""

    async def answer_message(topic: str, body: bytes) -> Answer | None:
        if (teller := _teller(topic)) is not None:
            await note_state(context, teller, body)
            return None
        found = _asker(topic)
        if found is None:
            _log.warning("a request came on a topic that nobody may use: %r", topic[:256])
            return None
        asker, answer_topic = found
        return Answer(topic=answer_topic, body=encode(await answer_body(context, asker, body)))

    return answer_message


def _teller(topic: str) -> Identity | None:
    """Return who tells its state on a topic."""
    try:
        return topics.parse_device_state(topic)
    except MalformedMessageError:
        return None


def _asker(topic: str) -> tuple[Asker, str] | None:
    """Return who asks on a topic, and where the answer goes."""
    try:
        if len(topic.split("/")) == 5:
            boot = topics.parse_enroll_request(topic)
            return Asker(listener=Listener.BOOTSTRAP, client_id=boot.client), boot.response
        own = topics.parse_operational_request(topic)
    except MalformedMessageError:
        return None
    return Asker(listener=Listener.OPERATIONAL, identity=own.identity, serial=own.serial), own.response

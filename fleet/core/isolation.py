"""Topics that all AWS clients share by name, kept apart: each connection's messages under a topic of its own.

    a client asks      $aws/...
    the server hears   $fleet/aws/<issuer>/<serial>/<client id, hex>/<connection>/request/$aws/...
    it answers to      $fleet/aws/<issuer>/<serial>/<client id, hex>/<connection>/response/$aws/.../accepted
    the client hears   $aws/.../accepted

The broker (guard or embedded) rewrites both ways. It names the connection, not the client, by a word that it
gives once: an answer that comes late reaches nobody, whoever has the client id by then. Issuer and serial
are those of the certificate that the connection showed. Client ids are in hex, so none can change a topic.
"""

import re
from dataclasses import dataclass

from device_agent.wire.problems import MalformedMessageError

PREFIX = "$aws/"
"""What is shared."""
SHARED = (
    "$aws/certificates/create-from-csr/+",
    "$aws/certificates/create/+",
    "$aws/provisioning-templates/+/provision/+",
)
"""What a client may ask; the last level is the format."""
OUTCOMES = ("accepted", "rejected")

INSIDE = "$fleet/aws/"
"""What no client reaches."""
REQUESTS = f"{INSIDE}+/+/+/+/request/#"
ANSWERS = f"{INSIDE}+/+/+/+/response/#"

_HEX = "(?:[0-9a-f]{2})"
_TOPIC = re.compile(
    rf"\$fleet/aws/(?P<issuer>{_HEX}{{1,32}})/(?P<serial>[0-9a-f]{{32}})"
    rf"/(?P<client>{_HEX}{{1,128}})/(?P<name>[0-9a-f]{{16}}-(?:0|[1-9][0-9]{{0,18}}))"
    r"/(?P<way>request|response)/(?P<topic>\$aws/.*)",
    re.ASCII | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedLink:
    """One connection that asks on shared topics, as its broker knows it."""

    issuer: str
    serial: str
    """Of the certificate that it showed, lower-case hex."""
    client_id: str
    name: str
    """Which the broker gives to one connection only."""

    def request(self, topic: str) -> str:
        """Return where the server hears what was asked on a shared topic."""
        return f"{self._base}/request/{topic}"

    def answer(self, topic: str) -> str:
        """Return where the server answers, for the connection to hear it on a shared topic."""
        return f"{self._base}/response/{topic}"

    @property
    def _base(self) -> str:
        return f"{INSIDE}{self.issuer}/{self.serial}/{self.client_id.encode().hex()}/{self.name}"


def parse_request(topic: str) -> tuple[SharedLink, str]:
    """Return who asks, and the shared topic.

    Raises:
        MalformedMessageError: it is no topic of a request.
    """
    return _parse(topic, way="request")


def parse_answer(topic: str) -> tuple[SharedLink, str]:
    """Return for whom an answer is, and the shared topic on which it is heard.

    Raises:
        MalformedMessageError: it is no topic of an answer.
    """
    return _parse(topic, way="response")


def _parse(topic: str, *, way: str) -> tuple[SharedLink, str]:
    found = _TOPIC.fullmatch(topic)
    if found is None or found["way"] != way:
        raise MalformedMessageError("the topic is of no connection")
    try:
        client_id = bytes.fromhex(found["client"]).decode()
    except UnicodeDecodeError as error:
        raise MalformedMessageError("the client id is not UTF-8") from error
    link = SharedLink(issuer=found["issuer"], serial=found["serial"], client_id=client_id, name=found["name"])
    return link, found["topic"]

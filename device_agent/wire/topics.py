"""MQTT topics of both listeners. Answer topics are derived here, never chosen by the asker.

Only names that `wire.identity` has parsed may be put into a topic: they hold no wildcard and no level.
"""

from dataclasses import dataclass

from device_agent.wire.identity import (
    Identity,
    parse_device_id,
    parse_domain,
    parse_sha256,
    parse_shown_serial,
)
from device_agent.wire.problems import MalformedMessageError

_ENROLL_ROOT = "fleet/v1/enroll"
_ROOT = "fleet/v1"

ENROLL_REQUESTS = f"{_ENROLL_ROOT}/+/request"
"""What the server subscribes on the bootstrap listener."""
OPERATIONAL_REQUESTS = f"{_ROOT}/+/+/+/request"
"""What the server subscribes on the operational listener."""
DEVICE_STATES = f"{_ROOT}/+/+/state"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollTopics:
    """The pair of a bootstrap client; `client` is the hex SHA-256 of its CSR's SubjectPublicKeyInfo."""

    client: str

    @property
    def request(self) -> str:
        return f"{_ENROLL_ROOT}/{self.client}/request"

    @property
    def response(self) -> str:
        return f"{_ENROLL_ROOT}/{self.client}/response"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationalTopics:
    """The topics of one connection: `serial` is that of the certificate it was made with."""

    identity: Identity
    serial: str

    @property
    def _base(self) -> str:
        return f"{_ROOT}/{self.identity.domain}/{self.identity.device_id}"

    @property
    def request(self) -> str:
        return f"{self._base}/{self.serial}/request"

    @property
    def response(self) -> str:
        return f"{self._base}/{self.serial}/response"

    @property
    def notice(self) -> str:
        return f"{self._base}/notice"

    @property
    def state(self) -> str:
        return f"{self._base}/state"

    @property
    def own(self) -> str:
        """Root of the device's own topics, by default policy; everything below it is the device's."""
        return f"devices/{self.identity.domain}/{self.identity.device_id}"


def parse_enroll_request(topic: str) -> EnrollTopics:
    """Return who asks on the bootstrap listener.

    Raises:
        MalformedMessageError: the topic is not one of `ENROLL_REQUESTS`.
    """
    match topic.split("/"):
        case ["fleet", "v1", "enroll", client, "request"]:
            return EnrollTopics(client=parse_sha256(client))
        case _:
            raise MalformedMessageError("topic must be fleet/v1/enroll/<client>/request")


def parse_device_state(topic: str) -> Identity:
    """Return who tells its state.

    Raises:
        MalformedMessageError: the topic is not one of `DEVICE_STATES`.
    """
    match topic.split("/"):
        case ["fleet", "v1", domain, device_id, "state"]:
            return Identity(domain=parse_domain(domain), device_id=parse_device_id(device_id))
        case _:
            raise MalformedMessageError("topic must be fleet/v1/<domain>/<id>/state")


def parse_operational_request(topic: str) -> OperationalTopics:
    """Return which certificate asks on the operational listener.

    Raises:
        MalformedMessageError: the topic is not one of `OPERATIONAL_REQUESTS`.
    """
    match topic.split("/"):
        case ["fleet", "v1", domain, device_id, serial, "request"]:
            identity = Identity(domain=parse_domain(domain), device_id=parse_device_id(device_id))
            return OperationalTopics(identity=identity, serial=parse_shown_serial(serial))
        case _:
            raise MalformedMessageError("topic must be fleet/v1/<domain>/<id>/<serial>/request")

"""All checks of a client over MQTT, in their order: enroll, confirm, renew, and what gets lost between."""

from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from device_agent.wire.problems import ProblemCode, Retry
from device_agent.wire.replies import Confirmed, DoneAck
from device_agent.wire.requests import Confirm, Done, Enroll, ProofKind, Renew
from device_agent.wire.topics import EnrollTopics
from fleet.cli.conformance.check import Absent, Check, Failure, Result, run
from fleet.cli.conformance.mqtt_client import Asked, Client, csr_of
from fleet.cli.conformance.mqtt_server import Visit

_PAGE = "device-profile.md"
_WAIT_SECONDS = 2
_EARLY_SECONDS = 0.2
"""Clocks of two machines need not agree to the tenth of a second."""


async def _connects(client: Client) -> None:
    visit = await client.visit("the device's first connection")
    if not visit.connect.is_clean:
        raise Failure("its first connection asks for a session that lasts")
    if len(visit.connect.client_id) != 64:
        raise Failure("its client id is not the hex SHA-256 of its key")


async def _enrolls(client: Client) -> None:
    asked = await client.request("enroll")
    request = _enroll(asked)
    csr = csr_of(request)
    client.key_hash = csr.key_hash
    if asked.visit.connect.client_id != csr.key_hash:
        raise Failure("its client id is not the hex SHA-256 of the key in its request")
    if asked.said.publish.topic != EnrollTopics(client=csr.key_hash).request:
        raise Failure("enroll does not come on fleet/v1/enroll/<client id>/request")
    if request.device_id != client.device_id:
        raise Failure(f"device_id is {request.device_id}, and should be {client.device_id}")
    if any(name != client.device_id for name in csr.common_names):
        raise Failure("its request for a certificate names another device")
    if request.proof.kind is not ProofKind.CODE or request.proof.code is None:
        raise Failure("its proof is not of kind code")
    if request.proof.code.reveal() != client.code:
        raise Failure("its proof has another code than it was given")


def _enroll(asked: Asked) -> Enroll:
    if not isinstance(asked.request, Enroll):
        raise Failure(f"it sent {asked.request.kind} where enroll was to come")
    return asked.request


async def _enrolls_again(client: Client, what: str) -> Asked:
    asked = await client.request(what)
    _enroll(asked)
    if csr_of(asked.request).key_hash != client.key_hash:
        raise Failure("it asks for another key than before")
    return asked


async def _lost_enroll(client: Client) -> None:
    client.cut()
    await _enrolls_again(client, "enroll again, after a connection that ended without an answer")


async def _later(client: Client) -> None:
    told = client.asked.said.at if client.asked else 0.0
    client.answer(client.problem(ProblemCode.UNAVAILABLE, retry=Retry.LATER, seconds=_WAIT_SECONDS))
    asked = await _enrolls_again(client, "enroll again, after a problem with retry later")
    waited = asked.said.at - told
    if waited < _WAIT_SECONDS - _EARLY_SECONDS:
        raise Failure(f"it asks again after {waited:.1f} seconds, and was told {_WAIT_SECONDS}")


async def _foreign(client: Client) -> None:
    """A right certificate, for somebody else's key; and one that nobody vouches for."""
    stranger = ec.generate_private_key(ec.SECP256R1()).public_key()
    leaf = client.workshop.device(client.device_id, stranger)
    client.answer(client.issued(leaf, (client.workshop.devices.certificate,)))
    await _enrolls_again(client, "enroll again, after a certificate for another key")
    csr = csr_of(client.asked.request) if client.asked else None
    if csr is None or not isinstance(csr.public_key, ec.EllipticCurvePublicKey):
        raise Failure("its key is on no curve")
    forged = client.workshop.device(client.device_id, csr.public_key, issuer=client.workshop.strangers)
    client.answer(client.issued(forged, (client.workshop.strangers.certificate,)))
    await _enrolls_again(client, "enroll again, after a certificate that no anchor vouches for")


async def _uses(client: Client) -> None:
    """The right answer, twice and with a member of a later version, leads to a connection with it."""
    if client.asked is None:
        raise Failure("nothing was asked")
    client.answer_twice(client.give(csr_of(client.asked.request)))
    _require_new(client, await client.visit("a connection with the new certificate"))


def _require_new(client: Client, visit: Visit) -> None:
    if f"{visit.certificate.serial_number:032x}" != client.serial:
        raise Failure("it connects with another certificate than it was given last")
    if visit.connect.client_id != client.identity.name:
        raise Failure(f"its client id is not the broker name {client.identity.name}")


async def _confirms(client: Client) -> None:
    asked = await client.request("confirm")
    _require_confirm(client, asked)


def _require_confirm(client: Client, asked: Asked) -> None:
    if not isinstance(asked.request, Confirm):
        raise Failure(f"it sent {asked.request.kind} where confirm was to come")
    if asked.said.publish.topic != client.topics.request:
        raise Failure(
            f"confirm came on {asked.said.publish.topic[:128]}, and should on {client.topics.request}"
        )


async def _lost_confirm(client: Client) -> None:
    client.mislead(Confirmed(id="of-nobody", serial=client.serial))
    _require_confirm(client, await client.request("confirm again, after an answer to somebody else"))
    if client.asked:
        client.answer_twice(Confirmed(id=client.asked.request.id, serial=client.serial))


async def _renews(client: Client) -> None:
    asked = await _until_renew(client)
    request, csr = asked.request, csr_of(asked.request)
    if csr.key_hash == client.key_hash:
        raise Failure("it renews with the key that it has")
    if not isinstance(request, Renew) or request.attempt is None or request.attempt < 1:
        raise Failure("renew has no attempt")
    if asked.said.publish.topic != client.topics.request:
        raise Failure(
            f"renew came on {asked.said.publish.topic[:128]}, and should on {client.topics.request}"
        )
    if asked.said.at < client.renew_due - _EARLY_SECONDS:
        raise Failure("it renews before renew_after")
    client.key_hash, client.attempt = csr.key_hash, request.attempt


async def _until_renew(client: Client) -> Asked:
    """Acknowledge `done`, which a device may say at any time, until it renews."""
    while True:
        asked = await client.request("renew")
        match asked.request:
            case Done(id=message_id):
                client.answer(DoneAck(id=message_id, serial=client.serial))
            case Confirm(id=message_id):
                client.answer(Confirmed(id=message_id, serial=client.serial))
            case Renew():
                return asked
            case _:
                raise Failure(f"it sent {asked.request.kind} where renew was to come")


async def _lost_renew(client: Client) -> None:
    client.cut()
    asked = await _until_renew(client)
    request = asked.request
    if csr_of(request).key_hash != client.key_hash:
        raise Failure("it asks for another key than before")
    if not isinstance(request, Renew) or request.attempt != client.attempt:
        raise Failure("the same renewal has another attempt than before")


async def _takes_over(client: Client) -> None:
    before = client.leaf
    if client.asked is None or before is None:
        raise Failure("nothing was asked")
    client.answer(client.give(csr_of(client.asked.request)))
    _require_new(client, await client.visit("a connection with the renewed certificate"))
    _require_confirm(client, await client.request("confirm of the renewed certificate"))
    client.answer(Confirmed(id=client.asked.request.id, serial=client.serial))
    client.server.refused.add(before.serial_number)


async def _drops(client: Client) -> None:
    """After `confirmed`, it says `done` once, and never shows the certificate before again."""
    try:
        asked = await client.request("done")
    except Failure as failure:
        raise Absent("it does not say done: the server learns it by the next renewal") from failure
    if isinstance(asked.request, Done):
        client.answer(DoneAck(id=asked.request.id, serial=client.serial))
    if client.server.turned_away:
        raise Failure("it connects with a certificate that it has replaced")


@dataclass(frozen=True, slots=True)
class _Throughout:
    """A rule that holds all the time: it is broken where any message broke it."""

    check: str

    async def __call__(self, client: Client) -> None:
        if self.check in client.violations:
            raise Failure(client.violations[self.check])


COURSE: tuple[Check[Client], ...] = (
    Check(
        name="connect",
        title="connects with the claim certificate, MQTT 3.1.1, a clean session",
        rule=f"{_PAGE}: Enroll",
        advice="protocol level 4, clean session, client id: hex SHA-256 of your key's SubjectPublicKeyInfo",
        act=_connects,
    ),
    Check(
        name="enroll",
        title="asks with a right request and its code",
        rule=f"{_PAGE}: Enroll",
        advice='{"v":1,"id":..,"type":"enroll","device_id":..,"csr":PEM,"anchors":[..],"proof":{"kind":"code",..}}',
        act=_enrolls,
        after=("connect",),
    ),
    Check(
        name="enroll-lost",
        title="asks again with the same key when an answer is lost",
        rule=f"{_PAGE}: What gets lost",
        advice="keep the key before you ask, and ask with it until it has a certificate",
        act=_lost_enroll,
        after=("enroll",),
    ),
    Check(
        name="retry-later",
        title="waits as long as a problem tells it",
        rule=f"{_PAGE}: Problems",
        advice="retry later: not sooner than retry_after seconds, with the same key; delete nothing",
        act=_later,
        after=("enroll-lost",),
    ),
    Check(
        name="acceptance",
        title="uses no certificate for another key or without an anchor",
        rule=f"{_PAGE}: Enroll",
        advice="check key, name and chain before you keep it; else go on as if nothing had come",
        act=_foreign,
        after=("retry-later",),
    ),
    Check(
        name="use",
        title="connects with what it was given, and takes an answer that comes twice",
        rule=f"{_PAGE}: Confirm",
        advice="client id is broker.name; members that you do not know are to be ignored",
        act=_uses,
        after=("acceptance",),
    ),
    Check(
        name="confirm",
        title="confirms on the topic of its certificate",
        rule=f"{_PAGE}: Confirm",
        advice="fleet/v1/<domain>/<id>/<serial>/request, the serial of this very connection",
        act=_confirms,
        after=("use",),
    ),
    Check(
        name="confirm-lost",
        title="confirms again when the answer is lost, and takes no other for it",
        rule=f"{_PAGE}: What gets lost",
        advice="keep both certificates until confirmed has come with the id that you asked with",
        act=_lost_confirm,
        after=("confirm",),
    ),
    Check(
        name="renew",
        title="renews with a new key, when it is time",
        rule=f"{_PAGE}: Renew",
        advice="from renew_after on, with a new key and the attempt counted up",
        act=_renews,
        after=("confirm-lost",),
    ),
    Check(
        name="renew-lost",
        title="renews again with the same key and attempt when the answer is lost",
        rule=f"{_PAGE}: What gets lost",
        advice="keep key and attempt before you ask: another key under the same attempt looks like a clone",
        act=_lost_renew,
        after=("renew",),
    ),
    Check(
        name="take-over",
        title="goes over to the renewed certificate and confirms it",
        rule=f"{_PAGE}: Renew",
        advice="connect with the new one, confirm on its topic, and only then drop the old one",
        act=_takes_over,
        after=("renew-lost",),
    ),
    Check(
        name="done",
        title="says done, and never shows the old certificate again (may be left out)",
        rule=f"{_PAGE}: Renew",
        advice="after confirmed, drop the old key, and say done until done-ack has come",
        act=_drops,
        after=("take-over",),
    ),
    Check(
        name="subscribe",
        title="subscribes to its answers before it asks, with QoS 1",
        rule=f"{_PAGE}: Topics",
        advice="wait for the SUBACK, then publish",
        act=_Throughout("subscribe"),
        after=("enroll",),
    ),
    Check(
        name="qos",
        title="publishes requests with QoS 1",
        rule=f"{_PAGE}: Topics",
        advice="QoS 1, and wait for the PUBACK",
        act=_Throughout("qos"),
        after=("enroll",),
    ),
    Check(
        name="retain",
        title="retains no request",
        rule=f"{_PAGE}: Topics",
        advice="leave the retain flag off: only your state may be retained",
        act=_Throughout("retain"),
        after=("enroll",),
    ),
    Check(
        name="topics",
        title="publishes on its own topics only",
        rule=f"{_PAGE}: Topics",
        advice="a broker drops what is published anywhere else, and may end the connection",
        act=_Throughout("topics"),
        after=("enroll",),
    ),
)


async def check_mqtt(client: Client, *, report: Callable[[Result], None]) -> tuple[Result, ...]:
    """Check the device that connects."""
    return await run(COURSE, client, report=report)

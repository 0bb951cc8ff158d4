"""The agent and EST servers that are none of ours: an honest one of another maker, and hostile ones."""

import logging
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from device_agent.agent import Agent, EstEnrollment
from device_agent.channels.mqtt import MqttOptions
from device_agent.config import Settings
from device_agent.core.certificates import load, read_bundle
from device_agent.core.lifecycle import State
from device_agent.environment import environment_of
from device_agent.errors import AgentError, ChannelError, RefusedError, UnacceptableAnswerError, UsageError
from device_agent.looking import examined
from device_agent.store import load_record
from device_agent.wire.problems import ProblemCode, Retry
from device_agent.wire.secret import Secret
from tests.est import basic
from tests.est_maker import CERTS, CODE, Asked, OtherMaker, Said, certs, serving
from tests.pki import Authority

MiB = 1 << 20


@pytest.fixture
def maker(tmp_path: Path) -> Iterator[OtherMaker]:
    with serving(OtherMaker(folder=tmp_path / "maker")) as running:
        yield running


def settings(folder: Path) -> Settings:
    options = MqttOptions(timeout=timedelta(seconds=5), reply_timeout=timedelta(seconds=5))
    return Settings(state=folder / "state", patience=timedelta(), first_wait=timedelta(), mqtt=options)


def opened(folder: Path) -> AbstractContextManager[Agent]:
    return Agent.opened(settings(folder), clock=lambda: datetime.now(UTC))


def enrollment(maker: OtherMaker, *, code: str = CODE) -> EstEnrollment:
    return EstEnrollment(url=maker.url, device_id="d1", trust_pem=maker.trust_pem, code=Secret(code))


async def test_a_device_lives_with_the_server_of_another_maker(maker: OtherMaker, tmp_path: Path) -> None:
    with opened(tmp_path) as agent:
        first = await agent.enroll(enrollment(maker))
        second = await agent.renew_once()
        record = agent.record
    assert (first.state, first.name, first.broker) == (State.SETTLED, "plant:d1", None)
    assert first.key != second.key
    assert first.serial != second.serial
    renewal = next(asked for asked in maker.asked if asked.operation == "simplereenroll")
    held = load(read_bundle(record.life.active.certificate, most=1)[0]) if record.life.active else None
    assert held is not None
    assert renewal.shown is not None
    assert renewal.csr.subject == renewal.shown.subject
    asked_names = renewal.csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert asked_names == held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert record.life.active is not None
    environment = environment_of(tmp_path / "state", record.life.active)
    assert not any("BROKER" in name for name in environment)
    assert Path(environment["DEVICE_AGENT_TRUST"]).read_text() == maker.trust_pem


async def test_a_running_agent_keeps_a_certificate_that_no_broker_wants(
    maker: OtherMaker, tmp_path: Path
) -> None:
    with opened(tmp_path) as agent:
        first = await agent.enroll(enrollment(maker))
        async with agent.connected():
            second = await agent.renew()
            with pytest.raises(UsageError, match="no connection"):
                await agent.publish("up", b"")
    assert (second.serial != first.serial, second.problem) == (True, None)


async def test_the_doctor_looks_at_the_est_server_and_at_no_broker(maker: OtherMaker, tmp_path: Path) -> None:
    with opened(tmp_path) as agent:
        await agent.enroll(enrollment(maker))
    findings = {found["name"]: found for found in await examined(tmp_path / "state")}
    assert findings["est"]["ok"], findings["est"]
    assert "broker" not in findings


async def test_answers_in_chunks_are_read(maker: OtherMaker, tmp_path: Path) -> None:
    maker.manners["cacerts"] = lambda _asked: replace(
        certs(maker.root.certificate, maker.issuing.certificate), is_chunked=True
    )
    with opened(tmp_path) as agent:
        assert (await agent.enroll(enrollment(maker))).enrolled


async def test_a_device_that_has_to_wait_asks_again_with_the_same_key(
    maker: OtherMaker, tmp_path: Path
) -> None:
    maker.manners["simpleenroll"] = lambda _asked: Said(status=202, headers={"Retry-After": "30"})
    with opened(tmp_path) as agent:
        with pytest.raises(RefusedError) as caught:
            await agent.enroll(enrollment(maker))
        del maker.manners["simpleenroll"]
        await agent.enroll(enrollment(maker))
    assert (caught.value.retry, caught.value.retry_after_seconds) == (Retry.LATER, 30)
    asked = [asked.csr.public_key() for asked in maker.asked if asked.operation == "simpleenroll"]
    assert asked[0] == asked[1]


async def test_a_new_root_is_believed_because_the_proven_server_teaches_it(
    maker: OtherMaker, tmp_path: Path
) -> None:
    with opened(tmp_path) as agent:
        await agent.enroll(enrollment(maker))
        maker.roll()
        status = await agent.renew_once()
        anchors = agent.record.life.anchors
    assert status.state == State.SETTLED
    assert len(anchors) == 2


def _asks_for_a_link(_asked: Asked) -> Said:
    # SEQUENCE of the OID of challengePassword (RFC 7030 4.5.2).
    return Said(headers={"Content-Type": "application/csrattrs"}, body=b"MAsGCSqGSIb3DQEJBw==")


async def test_a_request_is_linked_to_its_connection_where_the_server_asks_for_that(tmp_path: Path) -> None:
    maker = OtherMaker(folder=tmp_path / "maker", tls=ssl.TLSVersion.TLSv1_2)
    maker.manners["csrattrs"] = _asks_for_a_link
    with serving(maker), opened(tmp_path) as agent:
        await agent.enroll(enrollment(maker))
        await agent.renew_once()
    linked = [asked for asked in maker.asked if asked.operation.startswith("simple")]
    assert len(linked) == 2
    for asked in linked:
        assert asked.tls_unique
        assert asked.linked == asked.tls_unique


async def test_tls_1_3_has_nothing_to_link_by_and_the_agent_says_so(
    maker: OtherMaker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    maker.manners["csrattrs"] = _asks_for_a_link
    with caplog.at_level(logging.INFO), opened(tmp_path) as agent:
        await agent.enroll(enrollment(maker))
    asked = next(asked for asked in maker.asked if asked.operation == "simpleenroll")
    assert list(asked.csr.attributes) == []
    assert "which TLS 1.3 cannot" in caplog.text


HOSTILE: dict[str, tuple[Callable[[OtherMaker, Asked], Said], type[AgentError], str]] = {
    "endless": (lambda _m, _a: Said(is_endless=True), ChannelError, "more than 65536 bytes"),
    "huge": (lambda _m, _a: Said(body=b"A" * MiB), ChannelError, "more than 65536 bytes"),
    "no base64": (lambda _m, _a: Said(headers=CERTS, body=b"!!!!"), ChannelError, "not base64"),
    "no pkcs7": (lambda _m, _a: Said(headers=CERTS, body=b"AAAA"), ChannelError, "no certificates in PKCS#7"),
    "too many": (
        lambda _m, _a: certs(*(Authority.root(f"r{n}").certificate for n in range(17))),
        ChannelError,
        "more than 16",
    ),
    "no leaf": (
        lambda m, _a: certs(m.root.certificate),
        UnacceptableAnswerError,
        "no certificate for the key",
    ),
    "wrong key": (
        lambda m, a: m.issued(a, key=ec.generate_private_key(ec.SECP256R1())),
        UnacceptableAnswerError,
        "no certificate for the key",
    ),
    "wrong name": (lambda m, a: m.issued(a, name="d2"), UnacceptableAnswerError, "wrong identity"),
    "a CA": (lambda m, a: m.issued(a, is_ca=True), UnacceptableAnswerError, "is a CA"),
    "expired": (
        lambda m, a: m.issued(a, life=(timedelta(days=-3), timedelta(days=-2))),
        UnacceptableAnswerError,
        "expired",
    ),
    "not yet": (
        lambda m, a: m.issued(a, life=(timedelta(days=2), timedelta(days=3))),
        UnacceptableAnswerError,
        "not yet valid",
    ),
    "for servers": (
        lambda m, a: m.issued(a, usages=(ExtendedKeyUsageOID.SERVER_AUTH,)),
        UnacceptableAnswerError,
        "wrong usage",
    ),
    "wrong chain": (
        lambda m, a: m.issued(a, issuer=Authority.root("Stranger").issuing("Stranger CA")),
        UnacceptableAnswerError,
        "lead to no root",
    ),
    "redirect": (
        lambda _m, _a: Said(status=302, headers={"Location": "https://localhost:1/"}),
        ChannelError,
        "redirect",
    ),
    "junk beside it": (
        lambda m, a: replace(m.issued(a), headers={**CERTS, "X-Fleet-Issued": "{"}),
        ChannelError,
        "words that are none",
    ),
    "tells the code": (
        lambda _m, _a: Said(status=401, body=f"{CODE} is wrong\n".encode()),
        RefusedError,
        "code-invalid",
    ),
    "tells the login": (
        lambda _m, a: Said(status=403, body=f"{'x' * 150} {a.authorization}\n".encode()),
        RefusedError,
        "not-allowed: 403$",
    ),
    "approves by the code": (
        lambda _m, _a: Said(status=202, headers={"X-Fleet-Approval-Code": CODE, "Retry-After": "junk"}),
        RefusedError,
        "waits for an approval, code -$",
    ),
    "waits for ever": (
        lambda _m, _a: Said(status=503, headers={"Retry-After": "9" * 30}),
        RefusedError,
        "unavailable",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
async def test_a_hostile_answer_is_refused_and_changes_no_slot(
    maker: OtherMaker, tmp_path: Path, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    says, error, words = HOSTILE[case]
    maker.manners["simpleenroll"] = lambda asked: says(maker, asked)
    with (
        caplog.at_level(logging.DEBUG),
        opened(tmp_path) as agent,
        pytest.raises(error, match=words) as caught,
    ):
        await agent.enroll(enrollment(maker))
    loaded = load_record(tmp_path / "state")
    assert loaded is not None
    pending = loaded.record.life.pending
    assert loaded.record.life.active is None
    assert pending is None or pending.credential is None
    assert CODE not in caplog.text
    assert CODE not in str(caught.value)
    assert basic("d1", CODE).removeprefix("Basic ")[:20] not in caplog.text + str(caught.value)
    if isinstance(caught.value, RefusedError) and caught.value.retry_after_seconds is not None:
        assert caught.value.retry_after_seconds <= 3600


async def test_a_device_of_a_fleet_takes_nothing_of_another_makers_server(
    maker: OtherMaker, tmp_path: Path
) -> None:
    with opened(tmp_path) as agent:
        await agent.enroll(enrollment(maker))
        agent._life.keep(replace(agent.record, fleet="acme"))
        with pytest.raises(UnacceptableAnswerError):
            await agent.renew_once()


async def test_a_server_whose_root_is_not_trusted_hears_no_code(maker: OtherMaker, tmp_path: Path) -> None:
    stranger = OtherMaker(folder=tmp_path)
    wanted = replace(enrollment(maker), trust_pem=stranger.trust_pem)
    with opened(tmp_path) as agent, pytest.raises(ChannelError):
        await agent.enroll(wanted)
    assert maker.asked == []


async def test_a_certificate_that_its_own_server_turns_away_does_not_replace_the_one_in_use(
    maker: OtherMaker, tmp_path: Path
) -> None:
    with opened(tmp_path) as agent:
        first = await agent.enroll(enrollment(maker))
        stranger = Authority.root("Stranger")
        taught = certs(stranger.certificate, maker.root.certificate, maker.issuing.certificate)
        maker.manners["cacerts"] = lambda _asked: taught
        maker.manners["simplereenroll"] = lambda asked: maker.issued(asked, issuer=stranger)
        with pytest.raises(ChannelError):
            await agent.renew_once()
        status = agent.status()
    assert (status.serial, status.pending) == (first.serial, True)
    assert status.problem is None or status.problem != ProblemCode.REVOKED

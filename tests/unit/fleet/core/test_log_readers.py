"""Lines of other servers' logs: what is a refusal is found once, and strangers' words stay words."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.causes import Cause
from fleet.core.log_lines import LONGEST_LINE, Finding, Product, Zone, shown_address, shown_serial, time_of
from fleet.core.log_readers import feed, reader_of

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
APACHE = "[Thu Nov 26 10:55:01.419527 2026] [ssl:info] [pid 64:tid 6] "
AT_APACHE = f"{APACHE}[client 10.0.0.7:46100] "
NGINX = "2026/11/26 10:54:58 [info] 64#64: *4 "
BEHIND = " while reading client request headers, client: 10.0.0.7, server: localhost"
EVENTS = (
    "AH02008: SSL library error 1 in handshake (server x:1)",
    "AH01996: SSL handshake failed: HTTP spoken",
)


def read(product: Product, *lines: str) -> list[Finding]:
    reader = reader_of(product)
    return [found for line in lines if (found := feed(reader, line.encode())) is not None]


def verification(code: int, *, subject: str = "CN=d1", issuer: str = "CN=ca", serial: str = "4A") -> str:
    return (
        f"{AT_APACHE}AH02276: Certificate Verification: Error ({code}): text [subject: {subject}"
        f" / issuer: {issuer} / serial: {serial} / notbefore: Nov 24 10:54:53 2026 GMT"
        f" / notafter: Nov 25 10:54:53 2026 GMT]"
    )


def test_apache_tells_a_chain_with_its_certificate_and_not_again_with_its_library() -> None:
    library = f"{APACHE}SSL Library Error: error:0A000086:SSL routines::certificate verify failed"
    (one,) = read(Product.APACHE, verification(10), f"{AT_APACHE}{EVENTS[0]}", library)
    assert (one.cause, one.address, one.serial) == (Cause.EXPIRED, "10.0.0.7", "4a".zfill(32))
    assert one.at == datetime(2026, 11, 26, 10, 55, 1)  # noqa: DTZ001 - a log's own clock


@pytest.mark.parametrize("event", EVENTS)
def test_apache_tells_other_failures_in_two_lines_of_one_thread(event: str) -> None:
    library = f"{APACHE}SSL Library Error: error:0A0000C7:SSL routines::peer did not return a certificate"
    other = library.replace("tid 6]", "tid 7]")
    (one,) = read(Product.APACHE, f"{AT_APACHE}{event}", other, library, library)
    assert (one.cause, one.address) == (Cause.NO_CERTIFICATE, "10.0.0.7")


@given(st.text(max_size=200), st.text(max_size=200))
def test_a_subject_cannot_choose_the_serial_that_is_told(subject: str, issuer: str) -> None:
    line = verification(18, subject=subject, issuer=issuer, serial="4B")
    for found in read(Product.APACHE, line):
        assert found.serial in {"4b".zfill(32), ""}


def test_a_forged_subject_with_a_serial_of_another_is_no_serial() -> None:
    forged = "CN=x / issuer: CN=ca / serial: 40FF / notbefore: a / notafter: b]"
    (one,) = read(Product.APACHE, verification(18, subject=forged, serial="4B"))
    assert (one.serial, one.cause) == ("4b".zfill(32), Cause.SELF_SIGNED)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("client SSL certificate verify error: (23:certificate revoked)", Cause.REVOKED),
        ("client SSL certificate verify error: (9999:new)", Cause.NOT_VERIFIED),
        ("client sent no required SSL certificate", Cause.NO_CERTIFICATE),
        ("client sent plain HTTP request to HTTPS port", Cause.PROTOCOL),
        ("SSL_do_handshake() failed (SSL: error:0A000412:SSL routines::sslv3 alert bad certificate:x)", None),
    ],
)
def test_nginx_tells_a_refusal_in_one_line(text: str, cause: Cause | None) -> None:
    (one,) = read(Product.NGINX, f"{NGINX}{text}{BEHIND}")
    assert (one.cause, one.address) == (cause or Cause.SERVER_REFUSED, "10.0.0.7")


def test_what_a_client_of_nginx_asked_for_is_not_taken_for_its_address() -> None:
    asked = f'{BEHIND}, request: "GET /, client: 192.0.2.1, HTTP/1.0"'
    (one,) = read(Product.NGINX, f"{NGINX}client sent no required SSL certificate{asked}")
    assert one.address == "10.0.0.7"
    said = f'{NGINX}open() failed{BEHIND}, request: "GET /client sent no required SSL certificate HTTP/1.0"'
    assert read(Product.NGINX, said) == []


def test_the_access_log_of_nginx_is_json_with_the_certificate() -> None:
    line = (
        '{"time":"2026-11-26T10:54:58+01:00","client":"2001:db8::1","status":"400",'
        '"verify":"FAILED:certificate has expired","serial":"4A","subject":"CN=d1","issuer":"CN=ca"}'
    )
    (one,) = read(Product.NGINX, line)
    assert (one.cause, one.serial, one.subject) == (Cause.EXPIRED, "4a".zfill(32), "CN=d1")
    assert time_of(one, Zone(now=NOW)) == datetime(2026, 11, 26, 9, 54, 58, tzinfo=UTC)
    (old,) = read(Product.NGINX, line.replace("2026-11-26", "0001-01-01"))
    assert time_of(old, Zone(now=NOW)) == NOW
    assert (
        read(Product.NGINX, '{"verify":"SUCCESS","status":"200"}', '{"verify":"NONE","status":"200"}') == []
    )
    assert [one.cause for one in read(Product.NGINX, '{"verify":"NONE","status":"400"}')] == [
        Cause.NO_CERTIFICATE
    ]


NEW = "1795690481: New connection from 10.0.0.{0}:4{0} on port 8883."
ERROR = "1795690481: OpenSSL Error[0]: error:0A000086:SSL routines::certificate verify failed"
GONE = "1795690481: Client <unknown> disconnected: Protocol error."


def test_mosquitto_tells_a_failure_in_one_line_or_in_three() -> None:
    error = "error:0A00009C:SSL routines::http request."
    failed = f"2026-11-26T10:54:57: Client connection from 10.0.0.7 failed: {error}"
    assert [(one.cause, one.address) for one in read(Product.MOSQUITTO, failed)] == [
        (Cause.PROTOCOL, "10.0.0.7")
    ]
    (one,) = read(Product.MOSQUITTO, NEW.format(1), ERROR, GONE)
    assert (one.cause, one.address) == (Cause.NOT_VERIFIED, "10.0.0.1")
    assert one.at == datetime.fromtimestamp(1795690481, tz=UTC)


def test_where_two_connect_to_mosquitto_at_once_neither_is_blamed() -> None:
    (one,) = read(Product.MOSQUITTO, NEW.format(1), NEW.format(2), ERROR, GONE)
    assert one.address == ""
    came_in = "1795690481: New client connected from 10.0.0.2:42 as ab (p2, c1, k60, u'good')."
    (other,) = read(Product.MOSQUITTO, NEW.format(1), NEW.format(2), came_in, ERROR, GONE)
    assert other.address == "10.0.0.1"


def test_the_end_of_a_connection_that_was_let_in_is_no_refusal() -> None:
    eof = "1795690481: OpenSSL Error[0]: error:0A000126:SSL routines::unexpected eof while reading"
    assert read(Product.MOSQUITTO, eof, "1795690481: Client ab closed its connection.") == []
    refused = "1795690481: Client ab disconnected, not authorised."
    assert [one.cause for one in read(Product.MOSQUITTO, refused)] == [Cause.NOT_ADMITTED]


FRAMES = (AT_APACHE, NGINX, BEHIND)
WHOLE = (verification(10), f"{AT_APACHE}{EVENTS[0]}", NEW.format(1), ERROR, GONE)
PARTS = (" / serial: ", "{", '"verify":', "[client ", "SSL Library Error: error:0:a:b:", "\x1b[2J", "\0", "é")
PIECES = st.sampled_from(FRAMES + WHOLE + PARTS)


@given(st.sampled_from(Product), st.lists(st.lists(PIECES | st.text(max_size=40)).map("".join), max_size=8))
def test_no_line_breaks_a_reader_and_what_is_found_is_plain(product: Product, lines: list[str]) -> None:
    for found in read(product, *(line.replace("\n", "") for line in lines)):
        assert isinstance(found.cause, Cause)
        assert shown_address(found.address) == found.address
        assert shown_serial(found.serial) == found.serial
        assert time_of(found, Zone(now=NOW)) <= NOW


@given(st.sampled_from(Product), st.binary(max_size=300))
def test_bytes_that_are_no_text_break_no_reader(product: Product, line: bytes) -> None:
    feed(reader_of(product), line)


@pytest.mark.parametrize("product", Product)
def test_a_line_without_an_end_is_not_read_to_its_end(product: Product) -> None:
    hostile = (verification(10)[:200] + " / serial: " * LONGEST_LINE).encode()
    feed(reader_of(product), hostile)
    assert feed(reader_of(product), b"[" * 10**6) is None


def test_a_time_is_never_in_the_future_and_a_zone_counts() -> None:
    found = Finding(cause=Cause.OTHER, at=datetime(2026, 11, 26, 11, 59))  # noqa: DTZ001 - a log's own clock
    assert time_of(found, Zone(now=NOW)) == NOW - timedelta(minutes=1)
    assert time_of(found, Zone(now=NOW, east_of_utc=timedelta(hours=1))) == NOW - timedelta(minutes=61)
    assert time_of(found, Zone(now=NOW, east_of_utc=timedelta(hours=-5))) == NOW
    assert time_of(Finding(cause=Cause.OTHER), Zone(now=NOW)) == NOW


@given(st.text(max_size=60))
def test_any_text_is_an_address_and_a_serial_or_none(text: str) -> None:
    assert len(shown_serial(text)) in {0, 32, 40}
    assert shown_address(shown_address(text)) == shown_address(text)

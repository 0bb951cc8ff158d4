"""Mail, to a real mail server: over TLS, with a login, and whatever the server does instead of taking it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from email import message_from_bytes
from email.policy import SMTP as SMTP_POLICY
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.carriers import mail
from fleet.carriers.mail import ID_HEADER, MailCarrier, message_of
from fleet.channel_sections import MailConfig, MailSecurity
from fleet.errors import BadInputError, NotFoundError, RefusedError, UnreachableError
from tests.letters import ID, letter
from tests.post_office import PASSWORD, USER, PostOffice, post_office


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[PostOffice]:
    async with post_office(tmp_path) as running:
        yield running


def carrier(office: PostOffice, folder: Path, **settings: object) -> MailCarrier:
    usual = MailConfig(
        name="mail",
        host="localhost",
        port=office.port,
        sender="fleet@example.org",
        trust=office.ca,
        private_hosts=("localhost",),
        timeout=timedelta(seconds=10),
    )
    return MailCarrier(replace(usual, **settings), root=folder)  # type: ignore[arg-type]  # a test names fields


async def test_a_notification_arrives_over_starttls_with_an_id_by_which_a_second_one_is_told(
    office: PostOffice, tmp_path: Path
) -> None:
    said = await carrier(office, tmp_path).carry(letter(), "ops@example.org")
    await carrier(office, tmp_path).carry(letter(), "ops@example.org")

    first, second = office.messages
    assert "taken" in said
    assert office.tls == [True, True]
    assert office.envelopes[0] == ("fleet@example.org", ["ops@example.org"])
    assert first["Message-ID"] == second["Message-ID"] == f"<{ID}@example.org>"
    assert first[ID_HEADER] == ID
    assert first["Auto-Submitted"] == "auto-generated"
    assert first["Subject"] == "[acme] warning: certificates of devices end: prod:d1"
    assert "fleet notice ack 7" in first.get_content()
    assert office.raw[0] == office.raw[1]


async def test_mail_goes_over_tls_from_the_first_byte_with_a_login(tmp_path: Path) -> None:
    password = tmp_path / "smtp.password"
    password.touch(mode=0o600)
    password.write_text(PASSWORD + "\n")
    async with post_office(tmp_path, implicit_tls=True, login=True) as office:
        settings = {"security": MailSecurity.TLS, "user": USER, "password_file": Path("smtp.password")}
        await carrier(office, tmp_path, **settings).carry(letter(), "ops@example.org")
        assert office.users == [USER]
        assert len(office.messages) == 1

        password.write_text("wrong\n")
        with pytest.raises(UnreachableError, match="535") as refused:
            await carrier(office, tmp_path, **settings).carry(letter(), "ops@example.org")
        assert "wrong" not in str(refused.value)

        password.chmod(0o644)
        with pytest.raises(BadInputError, match="can be read by others"):
            carrier(office, tmp_path, **settings).check()
        password.unlink()
        with pytest.raises(NotFoundError):
            await carrier(office, tmp_path, **settings).carry(letter(), "ops@example.org")


async def test_a_server_that_offers_no_tls_gets_no_mail(tmp_path: Path) -> None:
    async with post_office(tmp_path, starttls=False) as office:
        with pytest.raises(UnreachableError):
            await carrier(office, tmp_path).carry(letter(), "ops@example.org")
        assert not office.messages
        await carrier(office, tmp_path, security=MailSecurity.NONE).carry(letter(), "ops@example.org")
        assert len(office.messages) == 1


async def test_a_server_of_another_root_gets_no_mail(office: PostOffice, tmp_path: Path) -> None:
    with pytest.raises(UnreachableError):
        await carrier(office, tmp_path, trust=None).carry(letter(), "ops@example.org")
    assert not office.messages


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "::ffff:127.0.0.1"])
async def test_a_server_inside_of_the_network_gets_no_mail_unless_it_is_named(
    office: PostOffice, tmp_path: Path, host: str
) -> None:
    with pytest.raises(UnreachableError, match=r"not.* public"):
        await carrier(office, tmp_path, host=host, private_hosts=()).carry(letter(), "ops@example.org")
    if host != "localhost":
        with pytest.raises(UnreachableError):
            carrier(office, tmp_path, host=host, private_hosts=()).check()
    assert not office.messages


@pytest.mark.parametrize(
    ("recipient", "data", "error"),
    [
        ("550 no such user", "250 OK", RefusedError),
        ("450 mailbox busy", "250 OK", UnreachableError),
        ("250 OK", "554 looks like spam", RefusedError),
        ("250 OK", "451 try later", UnreachableError),
        ("530 log in first", "250 OK", UnreachableError),
    ],
)
async def test_what_a_server_answers_says_whether_to_try_again(
    office: PostOffice, tmp_path: Path, recipient: str, data: str, error: type[Exception]
) -> None:
    office.says_to_recipient, office.says_to_data = recipient, data

    with pytest.raises(error, match=(recipient if recipient != "250 OK" else data)[:3]):
        await carrier(office, tmp_path).carry(letter(), "ops@example.org")

    assert not office.messages


async def test_a_server_that_hangs_or_closes_in_the_middle_is_tried_again(
    office: PostOffice, tmp_path: Path
) -> None:
    office.closes_in_data = True
    with pytest.raises(UnreachableError):
        await carrier(office, tmp_path).carry(letter(), "ops@example.org")
    office.closes_in_data, office.hangs_in_data = False, True
    with pytest.raises(UnreachableError, match="did not take it within"):
        await carrier(office, tmp_path, timeout=timedelta(seconds=0.5)).carry(letter(), "ops@example.org")
    assert not office.messages


async def test_what_was_taken_is_sent_however_the_server_says_good_bye(
    office: PostOffice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail, "_GOOD_BYE_SECONDS", 0.1)
    office.hangs_at_the_end = True

    assert "taken" in await carrier(office, tmp_path).carry(letter(), "ops@example.org")


async def test_a_message_whose_answer_was_lost_comes_again_under_the_same_id(
    office: PostOffice, tmp_path: Path
) -> None:
    office.closes_after_data = True
    with pytest.raises(UnreachableError):
        await carrier(office, tmp_path).carry(letter(), "ops@example.org")
    office.closes_after_data = False
    await carrier(office, tmp_path).carry(letter(), "ops@example.org")

    assert [message["Message-ID"] for message in office.messages] == [f"<{ID}@example.org>"] * 2


async def test_nobody_at_the_port_is_told_with_its_address(office: PostOffice, tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="cannot be found"):
        await carrier(office, tmp_path, host="nowhere.invalid").carry(letter(), "ops@example.org")


HEADERS = {"From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", ID_HEADER, "MIME-Version"}
HEADERS |= {"Content-Type", "Content-Transfer-Encoding"}


@given(subject=st.text(max_size=80), text=st.text(max_size=200))
def test_nothing_that_a_name_or_a_reason_holds_becomes_a_header(subject: str, text: str) -> None:
    made = message_of(letter(subject, text), sender="fleet@example.org", to="ops@example.org")

    read = message_from_bytes(made, policy=SMTP_POLICY)
    assert set(read.keys()) == HEADERS
    assert len(read.keys()) == len(HEADERS)
    assert made.isascii()
    assert not read.is_multipart()
    assert max(map(len, made.split(b"\r\n"))) <= 998  # RFC 5322 2.1.1
    assert read["To"] == "ops@example.org"


@pytest.mark.parametrize(
    "address", ["a@b\r\nBcc: c@d", "a b@c", "a@b, c@d", "<a@b>", "a@", "@b", "", "a@b\n", "ä@b", '"a"@b']
)
def test_an_address_that_is_more_than_one_is_never_written(address: str) -> None:
    with pytest.raises(RefusedError):
        message_of(letter(), sender="fleet@example.org", to=address)

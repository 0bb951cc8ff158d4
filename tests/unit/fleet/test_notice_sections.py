"""`[notice]` of fleet.toml: what is right is read, what is not is told with its line and a way out."""

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.channel_sections import (
    FileConfig,
    HookConfig,
    MailConfig,
    MailSecurity,
    TopicConfig,
    is_mail_address,
)
from fleet.config import parse
from fleet.core.matters import Matter, Severity
from fleet.core.notification_rule import Escalation, Receiver
from fleet.errors import BadInputError
from fleet.notice_sections import NoticeConfig

FLEET = '[fleet]\nname = "acme"\n[domains.prod]\n'
MAIL = '[notice.channels.mail]\nkind = "mail"\nhost = "mail.example.org"\nsender = "f@example.org"\n'
LOG = '[notice.channels.log]\nkind = "file"\npath = "n.jsonl"\n'
RULE = '[[notice.rule]]\nname = "all"\nevents = ["expiry.*"]\nto = ["log"]\n'


def read(text: str) -> NoticeConfig:
    return parse(FLEET + text).notice


def refusal(text: str) -> tuple[int, str]:
    """Return the line and the words of the refusal."""
    with pytest.raises(BadInputError) as caught:
        read(text)
    assert caught.value.hint
    _, line, words = str(caught.value).split(":", 2)
    return int(line), words


def test_channels_of_every_kind_are_read() -> None:
    found = read(
        MAIL
        + 'security = "tls"\nport = 465\nuser = "f"\npassword_file = "p"\n'
        + LOG
        + '[notice.channels.bus]\nkind = "mqtt"\n'
        + '[notice.channels.hook]\nkind = "webhook"\nurl = "https://x.example/y"\nsecret_file = "s"\n'
    )
    mail, log, bus, hook = found.channels
    assert isinstance(mail, MailConfig)
    assert (mail.security, mail.port, mail.password_file) == (MailSecurity.TLS, 465, Path("p"))
    assert log == FileConfig(name="log", path=Path("n.jsonl"))
    assert bus == TopicConfig(name="bus")
    assert isinstance(hook, HookConfig)
    assert hook.private_hosts == ()


def test_a_rule_says_who_is_told_of_what_and_who_is_next() -> None:
    (rule,) = read(
        MAIL
        + LOG
        + RULE.replace('["log"]', '["mail:a@example.org", "log"]')
        + 'owners = "mail"\nseverity = "info"\nthresholds_days = [20, 2]\ndomains = ["prod"]\n'
        + 'quiet = ["mon-fri 20:00-07:00 Europe/Berlin"]\nquiet_unless = "warning"\ngather_minutes = 5\n'
        + '[[notice.rule.escalation]]\nafter_minutes = 30\nto = ["mail:b@example.org"]\n'
    ).rules
    assert rule.to == (Receiver(channel="mail", address="a@example.org"), Receiver(channel="log"))
    assert Matter.CA_ENDS in rule.matters
    assert Matter.DOCTOR not in rule.matters
    assert rule.thresholds == (timedelta(days=20), timedelta(days=2))
    assert (rule.severity, rule.quiet.unless) == (Severity.INFO, Severity.WARNING)
    assert (rule.owners, rule.domains, rule.gather) == ("mail", {"prod"}, timedelta(minutes=5))
    boss = (Receiver(channel="mail", address="b@example.org"),)
    assert rule.escalations == (Escalation(after=timedelta(minutes=30), to=boss),)


def test_nobody_is_told_of_anything_where_nothing_is_said() -> None:
    assert read("") == NoticeConfig()


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[notice]\ngive_up_hours = 0\n", 5, "give_up_hours must be"),
        ('[notice.channels.x]\nkind = "fax"\n', 5, "kind must be one of"),
        ("[notice.channels.x]\n", 4, "has no kind"),
        ('[notice.channels.X]\nkind = "file"\n', 4, "a channel's name"),
        ('[notice.channels.x]\nkind = "file"\n', 4, "path must name a file"),
        (MAIL.replace("mail.example.org", "mail example"), 6, "host must be"),
        (MAIL.replace("f@example.org", "f@example.org>"), 7, "sender must be"),
        (MAIL + 'user = "f"\n', 8, "user and password_file come together"),
        (MAIL + 'security = "none"\n', 8, "private_hosts alone"),
        (MAIL + 'pasword_file = "x"\n', 8, "unknown key"),
        ('[notice.channels.h]\nkind = "webhook"\nurl = "http://x"\n', 6, "url must be https"),
        (LOG + RULE.replace("expiry.*", "expiry"), 9, "an event is not known"),
        (LOG + RULE.replace('["expiry.*"]', "[]"), 9, "about nothing"),
        (LOG + RULE.replace('"log"', '"lag"'), 10, "channel is not known"),
        (LOG + RULE.replace('"log"', '"log:a@b"'), 10, "is not right"),
        (MAIL + RULE.replace('"log"', '"mail"'), 11, "is not right"),
        (MAIL + RULE.replace('"log"', '"mail:a@b\\r\\nBcc: c@d"'), 11, "is not right"),
        (LOG + RULE.replace('to = ["log"]\n', ""), 7, "tells nobody"),
        (LOG + RULE + 'owners = "log"\n', 11, "owners must name a mail channel"),
        (LOG + RULE + 'domains = ["lab"]\n', 11, "no such domain"),
        (LOG + RULE + "thresholds_days = [1, 7]\n", 11, "from the longest"),
        (LOG + RULE + 'thresholds_days = ["7"]\n', 11, "must be a list of"),
        (LOG + RULE + 'quiet = ["at night"]\n', 11, "a quiet time"),
        (LOG + RULE + 'quiet = ["mon-fri 20:00-07:00 Europe/Atlantis"]\n', 11, "a quiet time"),
        (LOG + RULE + RULE, 12, "two rules are called all"),
        (LOG + RULE + RULE.replace("all", "b").replace("log", "lag"), 14, "channel is not known"),
        (LOG + RULE + "[[notice.rule.escalation]]\nafter_minutes = 5\n", 11, "escalation tells nobody"),
        (
            LOG + RULE + '[[notice.rule.escalation]]\nto = ["log"]\n' * 2 + "after_minutes = 5\n",
            11,
            "from the first to the last",
        ),
        ("[notice]\nrule = 3\n", 5, "must be an array of tables"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, words: str) -> None:
    found, said = refusal(text)
    assert words in said
    assert found == line


@given(text=st.text(max_size=40))
def test_a_mail_address_is_one_and_nothing_that_a_header_grows_from(text: str) -> None:
    if is_mail_address(text):
        assert text.isascii()
        assert text.isprintable()
        assert text.count("@") == 1
        assert not set(text) & set(' \t\r\n<>,;:"()[]\\')


@given(before=st.sampled_from(["a@b.org", "a.b@c.example"]), more=st.text(min_size=1, max_size=3))
def test_nothing_follows_an_address(before: str, more: str) -> None:
    assert is_mail_address(before)
    if set(more) & set("\r\n <>,;:@"):
        assert not is_mail_address(before + more)
        assert not is_mail_address(more + before)

"""fleet.toml: what is right is read, what is not is told with its line and a way out."""

import contextlib
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.config import BrokerDriver, BrokerMode, Config, default_text, load, parse
from fleet.errors import BadInputError

SMALLEST = '[fleet]\nname = "acme"\n[domains.prod]\n'


def refusal(text: str) -> BadInputError:
    with pytest.raises(BadInputError) as caught:
        parse(text)
    assert caught.value.hint
    return caught.value


def test_the_default_text_says_every_default() -> None:
    written = parse(default_text(fleet="acme", domains=["prod"], host="localhost"))

    assert written == parse(SMALLEST)


def test_domains_keep_their_order_and_overrides() -> None:
    found = parse(SMALLEST + "lifetime_days = 7\n[domains.lab]\nsame_key = true\n")

    assert [domain.name for domain in found.domains] == ["prod", "lab"]
    prod, lab = found.domain("prod"), found.domain("lab")
    assert prod is not None
    assert lab is not None
    assert (prod.profiles[0].lifetime, lab.profiles[0].same_key) == (timedelta(days=7), True)
    assert found.domain("nowhere") is None


def test_the_broker_is_chosen_by_its_words() -> None:
    found = parse(SMALLEST + '[broker]\ndriver = "mosquitto"\nmode = "external"\n')

    assert (found.broker.driver, found.broker.mode) == (BrokerDriver.MOSQUITTO, BrokerMode.EXTERNAL)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (SMALLEST + "lifetme_days = 7\n", 4, "unknown key 'lifetme_days' in [domains.prod]"),
        (SMALLEST + "\n[polcy]\n", 5, "unknown key 'polcy' in the file"),
        (SMALLEST + '[broker]\n# a comment\ndriver = "nats"\n', 6, "driver must be one of"),
        (SMALLEST + '[broker]\nmode = "external"\n', 5, "only Mosquitto can be external"),
        (SMALLEST + "[server]\nmqtt_port = 70000\n", 5, "mqtt_port must be an integer from 0 to 65535"),
        (SMALLEST + "[server]\nmqtt_port = true\n", 5, "mqtt_port must be an integer"),
        (SMALLEST + "[server]\nmqtt_port = 1\nhttps_port = 1\n", 4, "two listeners have the same port"),
        (SMALLEST + '[server]\nhost = "a b"\n', 5, "host must be a host name"),
        (SMALLEST + '[broker]\nstop_with_server = "no"\n', 5, "must be true or false"),
        (SMALLEST + "[policy]\ncrl_hours = 0\n", 5, "crl_hours must be an integer from 1"),
        ('[fleet]\nname = "A.b"\n[domains.prod]\n', 2, "name:"),
        ('[fleet]\nname = "acme"\n[domains."a b"]\n', 3, "domain"),
        ('[fleet]\nname = "acme"\ndomains = ["x"]\n', 3, "unknown key 'domains' in [fleet]"),
        ("fleet = 3\n", 1, "fleet must be a table"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, words: str) -> None:
    error = refusal(text)

    assert str(error).startswith(f"fleet.toml:{line}: ")
    assert words in str(error)


def test_a_fleet_without_domains_is_refused() -> None:
    assert "no security domain" in str(refusal('[fleet]\nname = "acme"\n'))


def test_a_slip_of_the_pen_gets_the_right_word() -> None:
    assert refusal(SMALLEST + "lifetme_days = 7\n").hint == "did you mean lifetime_days?"


def test_broken_toml_is_told_with_its_line() -> None:
    assert "line 2" in str(refusal("[fleet]\nname =\n"))


def test_a_file_that_cannot_be_read_is_an_error_of_its_own(tmp_path: Path) -> None:
    latin = tmp_path / "fleet.toml"
    latin.write_bytes(b'[fleet]\nname = "\xe9"\n')
    huge = tmp_path / "huge.toml"
    huge.write_bytes(b"#" * 300_000)

    for path in (tmp_path / "none.toml", tmp_path, latin, huge):
        with pytest.raises(BadInputError):
            load(path)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(BadInputError):
        assert isinstance(parse(text), Config)


@given(st.binary(max_size=40), st.sampled_from(["fleet", "server", "broker", "policy", "domains.prod"]))
def test_an_unknown_key_anywhere_is_refused(name: bytes, section: str) -> None:
    key = f"zz_{name.hex()}"

    text = SMALLEST.replace("[domains.prod]", "") + f"[{section}]\n{key} = 1\n[domains.other]\n"
    if section == "fleet":
        text = f'[fleet]\nname = "acme"\n{key} = 1\n[domains.prod]\n'
    assert key in str(refusal(text))


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("", "http://localhost:8080"),
        ("http://pki.example.org", "http://pki.example.org"),
        ("http://192.0.2.7:81", "http://192.0.2.7:81"),
        ("http://[2001:db8::1]:81", "http://[2001:db8::1]:81"),
    ],
)
def test_certificates_send_for_their_status_to_the_server_or_to_what_stands_in_front_of_it(
    url: str, place: str
) -> None:
    server = parse(SMALLEST + f'[server]\nstatus_url = "{url}"\n').server
    assert server.status_place(server.http_port) == place


def test_an_address_of_version_6_stands_in_brackets() -> None:
    server = parse(SMALLEST + '[server]\nhost = "2001:db8::1"\n').server
    assert server.status_place(80) == "http://[2001:db8::1]:80"


@pytest.mark.parametrize(
    "url",
    [
        "https://pki.example.org",
        "pki.example.org",
        "http://",
        "http://pki.example.org/",
        "http://pki.example.org/x",
        "http://a b",
        "http://user@pki.example.org",
        "http://pki.example.org:",
        "http://pki.example.org:0",
        "http://-a",
        "http://a\\n",
        "ldap://pki.example.org",
    ],
)
def test_a_place_for_status_that_clients_could_not_ask_is_refused(url: str) -> None:
    error = refusal(SMALLEST + f'[server]\nstatus_url = "{url}"\n')
    assert "status_url must be http://HOST" in str(error)


def test_the_pace_of_rollouts_has_a_limit_and_it_is_one() -> None:
    assert parse(f"{SMALLEST}[rollouts]\nmost_per_minute = 60\n").rollouts.most_per_minute == 60
    with pytest.raises(BadInputError, match="most_per_minute must be an integer from 1"):
        parse(f"{SMALLEST}[rollouts]\nmost_per_minute = 0\n")

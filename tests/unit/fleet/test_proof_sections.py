"""What `fleet.toml` says of manufacturers, TPM vendors and the webhook; what is wrong has its line."""

from datetime import timedelta
from pathlib import Path

import pytest

from fleet.config import parse
from fleet.core.piv_rules import PinPolicy, PivRules, TouchPolicy
from fleet.core.things import NameRule
from fleet.errors import BadInputError
from fleet.proof_sections import MaySet, Unregistered

HEAD = '[fleet]\nname = "acme"\n[domains.prod]\n'
MAKER = '[domains.prod.manufacturers.acme]\nanchors = "a.pem"\n'
PIV = '[domains.prod.piv.yubico]\nanchors = "y.pem"\n'
HOOK = '[webhook]\nurl = "https://hook.example.org/x"\nsecret_file = "s"\n'


def test_a_manufacturer_is_read_with_its_rule() -> None:
    text = f'{HEAD}{MAKER}device_id = "hardwareModuleName"\nprefix = "acme-"\nunregistered = "admit"\n'
    (domain,) = parse(text).domains
    (maker,) = domain.proofs.manufacturers
    assert (maker.name, maker.anchors, maker.prefix) == ("acme", Path("a.pem"), "acme-")
    assert (maker.device_id, maker.unregistered) == (NameRule.HARDWARE_MODULE, Unregistered.ADMIT)


def test_whoever_is_not_registered_waits_unless_told_otherwise() -> None:
    (domain,) = parse(HEAD + MAKER).domains
    assert domain.proofs.manufacturers[0].unregistered is Unregistered.WAIT


def test_a_maker_of_piv_tokens_is_read_with_what_is_enough() -> None:
    (usual,) = parse(HEAD + PIV).domains[0].proofs.piv_makers
    assert (usual.name, usual.anchors, usual.rules) == ("yubico", Path("y.pem"), PivRules())
    more = 'minimum_firmware = "5.7.0"\npin = ["always"]\ntouch = ["never", "cached"]\nslots = ["9a", "95"]\n'
    (told,) = parse(HEAD + PIV + more).domains[0].proofs.piv_makers
    assert told.rules == PivRules(
        minimum_firmware=(5, 7, 0),
        pin=frozenset({PinPolicy.ALWAYS}),
        touch=frozenset({TouchPolicy.NEVER, TouchPolicy.CACHED}),
        slots=frozenset({"9a", "95"}),
    )


def test_a_webhook_is_read_and_may_set_nothing_unless_told_so() -> None:
    found = parse(HEAD + HOOK).webhook
    assert found is not None
    assert (found.timeout, found.may_set, found.private_hosts) == (timedelta(seconds=5), frozenset(), ())
    more = parse(f'{HEAD}{HOOK}may_set = ["tags", "profile"]\nprofiles = ["gateway"]\n').webhook
    assert more is not None
    assert more.may_set == {MaySet.TAGS, MaySet.PROFILE}


def test_a_fleet_without_a_webhook_asks_nobody() -> None:
    assert parse(HEAD).webhook is None


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[domains.prod.manufacturers.acme]\n", 4, "anchors must name a PEM file"),
        ('[domains.prod.manufacturers."Acme Inc"]\nanchors = "a"\n', 4, "manufacturer"),
        (f'{MAKER}device_id = "colour"\n', 6, "device_id must be one of serialNumber"),
        (f'{MAKER}prefix = "a/b"\n', 6, "prefix must be"),
        (f'{MAKER}unregistered = "yes"\n', 6, "unregistered must be one of wait, admit"),
        (f"{MAKER}trusted = true\n", 6, "unknown key 'trusted'"),
        ("[domains.prod.tpm.infineon]\n", 4, "anchors must name a PEM file"),
        ("[domains.prod.piv.yubico]\n", 4, "anchors must name a PEM file"),
        (f'{PIV}minimum_firmware = "5.7"\n', 6, "minimum_firmware must be a version"),
        (f'{PIV}minimum_firmware = "5.7.256"\n', 6, "minimum_firmware must be a version"),
        (f'{PIV}pin = ["sometimes"]\n', 6, "pin must be of always, match-always"),
        (f"{PIV}touch = []\n", 6, "touch must be of always, cached, never"),
        (f'{PIV}slots = ["f9"]\n', 6, "slots must be of 82, 83"),
        ("[webhook]\n", 4, "url must be https"),
        ('[webhook]\nurl = "http://hook/"\n', 5, "url must be https"),
        ('[webhook]\nurl = "https://hook/"\n', 4, "secret_file must name a file"),
        (f"{HOOK}timeout_seconds = 0\n", 7, "timeout_seconds must be an integer from 1 to 30"),
        (f'{HOOK}may_set = ["everything"]\n', 7, "may_set must be a list of some of attributes"),
        (f"{HOOK}verify = false\n", 7, "unknown key 'verify'"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, said: str) -> None:
    with pytest.raises(BadInputError, match=f"fleet.toml:{line}: .*{said}"):
        parse(HEAD + text)

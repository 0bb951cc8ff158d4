"""Reads what a domain believes about its devices' hardware, and the webhook, out of `fleet.toml`.

Anchors stand in PEM files; which files, the configuration says, and nothing of them is read here.
"""

import re
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from device_agent.wire.identity import parse_domain
from device_agent.wire.problems import MalformedMessageError
from fleet.core.piv_rules import SLOTS, PinPolicy, PivRules, TouchPolicy
from fleet.core.things import NameRule
from fleet.toml_section import Section

HTTPS_URL = re.compile(
    r"https://([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?(/[\x21-\x7e]{0,1024})?"
)
_FIRMWARE = re.compile(r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})", re.ASCII)
_PREFIX = re.compile(r"[A-Za-z0-9_:-]{0,32}")


_Policy = TypeVar("_Policy", PinPolicy, TouchPolicy)


class Unregistered(StrEnum):
    """What becomes of a device that a manufacturer vouches for and nobody has registered."""

    WAIT = "wait"
    ADMIT = "admit"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManufacturerConfig:
    """A manufacturer whose certificates in devices (IDevID) are believed."""

    name: str
    anchors: Path
    """PEM; relative to the fleet home."""
    device_id: NameRule = NameRule.SERIAL_NUMBER
    prefix: str = ""
    """Before what the certificate says."""
    unregistered: Unregistered = Unregistered.WAIT


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmVendorConfig:
    """A vendor whose endorsement key certificates are believed."""

    name: str
    anchors: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PivMakerConfig:
    """A maker of PIV tokens whose attestations are believed, and which of them are enough."""

    name: str
    anchors: Path
    rules: PivRules = field(default_factory=PivRules)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofConfig:
    """Whom a domain believes about its devices' hardware."""

    manufacturers: tuple[ManufacturerConfig, ...] = ()
    tpm_vendors: tuple[TpmVendorConfig, ...] = ()
    piv_makers: tuple[PivMakerConfig, ...] = ()


class MaySet(StrEnum):
    """What a webhook's answer may set."""

    ATTRIBUTES = "attributes"
    TAGS = "tags"
    PROFILE = "profile"
    NAME = "name"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookConfig:
    """The service that is asked before a first certificate is signed."""

    url: str
    secret_file: Path
    timeout: timedelta = timedelta(seconds=5)
    trust: Path | None = None
    """Roots of its server certificate, PEM; None takes the system's."""
    private_hosts: tuple[str, ...] = ()
    """Names whose addresses may be loopback or private."""
    may_set: frozenset[MaySet] = frozenset()
    profiles: frozenset[str] = field(default=frozenset())


def read_proofs(section: Section) -> ProofConfig:
    """Read the tables `manufacturers`, `tpm` and `piv` of a domain; raises `BadInputError`."""
    makers, vendors, pivs = (section.section(name) for name in ("manufacturers", "tpm", "piv"))
    return ProofConfig(
        manufacturers=tuple(_manufacturer(makers, name) for name in makers.names()),
        tpm_vendors=tuple(_vendor(vendors, name) for name in vendors.names()),
        piv_makers=tuple(_piv_maker(pivs, name) for name in pivs.names()),
    )


def read_webhook(top: Section) -> WebhookConfig | None:
    """Read the table `webhook`, None where there is none; raises `BadInputError`."""
    if "webhook" not in top.names():
        return None
    section = top.section("webhook")
    seconds = section.integer("timeout_seconds", 5, bounds=(1, 30))
    url = section.text("url", "", longest=1024)
    if not HTTPS_URL.fullmatch(url):
        raise section.error("url", "url must be https://HOST[:PORT]/PATH", hint="plain http is not asked")
    secret_file = section.text("secret_file", "", longest=1024)
    if not secret_file:
        raise section.error(
            "secret_file", "secret_file must name a file", hint="with 32 random bytes or more"
        )
    trust = section.text("trust", "", longest=1024)
    found = WebhookConfig(
        url=url,
        secret_file=Path(secret_file),
        timeout=timedelta(seconds=seconds),
        trust=Path(trust) if trust else None,
        private_hosts=section.texts("private_hosts", (), most=16),
        may_set=frozenset(section.words("may_set", (), words=MaySet)),
        profiles=frozenset(section.texts("profiles", (), most=64)),
    )
    section.close()
    return found


def _manufacturer(table: Section, name: str) -> ManufacturerConfig:
    section = _named(table, name)
    prefix = section.text("prefix", "", longest=32)
    if not _PREFIX.fullmatch(prefix):
        raise section.error("prefix", "prefix must be of what device ids are made of", hint='such as "acme-"')
    found = ManufacturerConfig(
        name=name,
        anchors=_anchors(section),
        device_id=section.word("device_id", NameRule.SERIAL_NUMBER, words=NameRule),
        prefix=prefix,
        unregistered=section.word("unregistered", Unregistered.WAIT, words=Unregistered),
    )
    section.close()
    return found


def _vendor(table: Section, name: str) -> TpmVendorConfig:
    section = _named(table, name)
    found = TpmVendorConfig(name=name, anchors=_anchors(section))
    section.close()
    return found


def _piv_maker(table: Section, name: str) -> PivMakerConfig:
    section, usual = _named(table, name), PivRules()
    rules = PivRules(
        minimum_firmware=_firmware(section, usual.minimum_firmware),
        pin=_policies(section, "pin", usual.pin, PinPolicy),
        touch=_policies(section, "touch", usual.touch, TouchPolicy),
        slots=frozenset(_among(section, "slots", usual.slots, SLOTS)),
    )
    found = PivMakerConfig(name=name, anchors=_anchors(section), rules=rules)
    section.close()
    return found


def _firmware(section: Section, usual: tuple[int, int, int]) -> tuple[int, int, int]:
    text = section.text("minimum_firmware", ".".join(map(str, usual)), longest=11)
    found = _FIRMWARE.fullmatch(text)
    if found is None or max(map(int, found.groups())) > 255:
        raise section.error("minimum_firmware", "minimum_firmware must be a version", hint='such as "5.7.0"')
    return int(found[1]), int(found[2]), int(found[3])


def _policies(
    section: Section, name: str, usual: frozenset[_Policy], kind: type[_Policy]
) -> frozenset[_Policy]:
    by_word = {each.word: each for each in kind}
    words = _among(section, name, frozenset(each.word for each in usual), frozenset(by_word))
    return frozenset(by_word[word] for word in words)


def _among(section: Section, name: str, usual: frozenset[str], known: frozenset[str]) -> tuple[str, ...]:
    found = section.texts(name, tuple(sorted(usual)), most=len(known))
    if not found or not set(found) <= known:
        raise section.error(
            name, f"{name} must be of {', '.join(sorted(known))}", hint="leave it out for the usual ones"
        )
    return found


def _named(table: Section, name: str) -> Section:
    section = table.section(name)
    try:
        parse_domain(name)
    except MalformedMessageError as error:
        raise section.error(None, f"manufacturer {error}", hint="such as acme") from error
    return section


def _anchors(section: Section) -> Path:
    text = section.text("anchors", "", longest=1024)
    if not text:
        raise section.error("anchors", "anchors must name a PEM file", hint='such as "anchors/acme.pem"')
    return Path(text)

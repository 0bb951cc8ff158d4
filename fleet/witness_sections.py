"""Reads `[audit.witness.NAME]` out of `fleet.toml`: second parties that witness that the trail only grows."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from device_agent.wire.problems import MalformedMessageError
from fleet.core.checkpoint import WITNESS_KEY, NoteKey, parse_key
from fleet.proof_sections import HTTPS_URL
from fleet.toml_section import Section

_LONGEST = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessConfig:
    """A witness: where it is asked, and the key that its answers are signed with."""

    name: str
    url: str
    """Where `/add-checkpoint` is put behind."""
    key: NoteKey
    trust: Path | None = None
    """Roots that it is believed by; None: those of the system."""
    private_hosts: tuple[str, ...] = ()
    """Names that may lead to an address that is not public."""
    timeout: timedelta = timedelta(seconds=10)


def read_witnesses(top: Section) -> tuple[WitnessConfig, ...]:
    """Read the table `audit`; raises `BadInputError`."""
    audit = top.section("audit")
    table = audit.section("witness")
    found = tuple(_witness(table.section(name), name) for name in table.names())
    table.close()
    audit.close()
    return found


def _witness(section: Section, name: str) -> WitnessConfig:
    url = section.text("url", "", longest=_LONGEST)
    if not HTTPS_URL.fullmatch(url):
        raise section.error("url", "url must be https://HOST[:PORT]/PATH", hint="plain http is not asked")
    try:
        key = parse_key(section.text("key", "", longest=_LONGEST), kind=WITNESS_KEY)
    except MalformedMessageError as error:
        raise section.error("key", f"key: {error}", hint="the witness's operator tells it") from error
    trust = section.text("trust", "", longest=_LONGEST)
    found = WitnessConfig(
        name=name,
        url=url.rstrip("/"),
        key=key,
        trust=Path(trust) if trust else None,
        private_hosts=section.texts("private_hosts", (), most=16),
        timeout=timedelta(seconds=section.integer("timeout_seconds", 10, bounds=(1, 60))),
    )
    section.close()
    return found

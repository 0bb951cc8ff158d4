"""The facts of a request as one compact text, for the record that dry runs read; it holds nothing secret."""

import json
from datetime import timedelta

from device_agent.wire.fields import Fields, parse_object
from device_agent.wire.identity import Identity
from device_agent.wire.problems import MalformedMessageError
from fleet.core.goodkey import KeyType
from fleet.core.ruling import Channel, Facts, Step
from fleet.model import Assurance

_LONGEST = 256
_LEVELS = {level.word: level for level in Assurance}


def facts_text(facts: Facts) -> str:
    """Return the facts as JSON; what is as it mostly is, is left out."""
    expired = 0 if facts.expired_for is None else max(1, int(facts.expired_for.total_seconds()))
    members = {
        "step": facts.step.value,
        "channel": facts.channel.value,
        "domain": facts.identity.domain,
        "device_id": facts.identity.device_id,
        "key_type": facts.key_type.value,
        "rsa_bits": facts.rsa_bits,
        "assurance": facts.assurance.word,
        "label": facts.label,
        "device_profile": facts.device_profile,
        "batch_profile": facts.batch_profile,
        "batch": facts.batch,
        "hardware": facts.hardware,
        "attributes": dict(facts.attributes),
        "is_approved": facts.is_approved,
        "keeps_key": facts.keeps_key,
        "may_keep_key": facts.may_keep_key,
        "expired_seconds": expired,
    }
    return json.dumps({name: value for name, value in members.items() if value}, separators=(",", ":"))


def read_facts(text: str) -> Facts:
    """Return the facts of a text that `facts_text` made.

    Raises:
        MalformedMessageError: it is none.
    """
    fields = parse_object(text.encode())
    expired = _number(fields, "expired_seconds", highest=2**40)
    return Facts(
        step=fields.word("step", of=Step),
        channel=fields.word("channel", of=Channel),
        identity=Identity(domain=fields.text("domain", longest=32), device_id=fields.device_id("device_id")),
        key_type=fields.word("key_type", of=KeyType),
        rsa_bits=_number(fields, "rsa_bits", highest=2**16),
        assurance=_level(fields.text("assurance", longest=_LONGEST)),
        label=_text(fields, "label"),
        device_profile=_text(fields, "device_profile"),
        batch_profile=_text(fields, "batch_profile"),
        batch=_text(fields, "batch"),
        hardware=_text(fields, "hardware"),
        attributes=_attributes(fields),
        is_approved=_flag(fields, "is_approved"),
        keeps_key=_flag(fields, "keeps_key"),
        may_keep_key=_flag(fields, "may_keep_key"),
        expired_for=timedelta(seconds=expired) if expired else None,
    )


def _level(word: str) -> Assurance:
    if word not in _LEVELS:
        raise MalformedMessageError(f"assurance must be one of {', '.join(_LEVELS)}")
    return _LEVELS[word]


def _text(fields: Fields, name: str) -> str:
    return fields.text(name, longest=_LONGEST) if name in fields else ""


def _attributes(fields: Fields) -> tuple[tuple[str, str], ...]:
    if "attributes" not in fields:
        return ()
    found = fields.object("attributes")
    return tuple((name, found.text(name, longest=_LONGEST)) for name in sorted(found.names()))


def _number(fields: Fields, name: str, *, highest: int) -> int:
    return fields.integer(name, lowest=0, highest=highest) if name in fields else 0


def _flag(fields: Fields, name: str) -> bool:
    return name in fields and fields.flag(name)

"""What operators do with templates of things: hand in, list, show, take away.

A template is kept as it was handed in, and read each time it is used: a domain that is gone, or a rule that
has become stricter since, counts at once.
"""

import re
import tomllib
from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import parse_domain
from device_agent.wire.problems import MalformedMessageError
from fleet.config import Config
from fleet.core.thing_template import PARAMETER_NAME, PLACEHOLDER, TEMPLATE_NAME, Parameter, ThingTemplate
from fleet.errors import BadInputError, NotFoundError
from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.ra.desk import Desk
from fleet.store import audit
from fleet.store.claims import load_batch
from fleet.store.templates import (
    TemplateRecord,
    delete_template,
    list_templates,
    load_template,
    put_template,
)
from fleet.toml_section import Section, Where

LARGEST_TEMPLATE = 16 * 1024
"""Bytes; it stands in the audit trail, whole."""
_MOST = 64
_LONGEST_PATTERN = 200
_LONGEST_SETTING = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateView:
    """A template, and by whom it was handed in."""

    template: ThingTemplate
    record: TemplateRecord


async def add(desk: Desk, name: str, *, text: str, actor: str) -> TemplateView:
    """Hand in a template, also in the place of the one with its name.

    Raises:
        BadInputError: it is none, with the line.
        NotFoundError: the fleet has no such domain.
    """
    template = _require_domain(desk.config, read_template(name, text))
    record = TemplateRecord(name=template.name, text=text, added_at=desk.clock(), added_by=actor)
    await desk.store.write(_add, record)
    return TemplateView(template=template, record=record)


async def list_all(desk: Desk) -> tuple[TemplateView, ...]:
    """Return all templates, by name."""
    return tuple(map(_view, await desk.store.read(list_templates, None)))


async def show(desk: Desk, name: str) -> TemplateView:
    """Return a template; raises `NotFoundError`."""
    record = await desk.store.read(load_template, name)
    if record is None:
        raise _unknown(name)
    return _view(record)


async def remove(desk: Desk, name: str, *, actor: str) -> None:
    """Take a template away; what was registered by it stays. Raises `NotFoundError`."""
    if not await desk.store.write(_remove, _Removal(name=name, actor=actor, at=desk.clock())):
        raise _unknown(name)


async def faults(desk: Desk) -> dict[str, str]:
    """Return why templates cannot be used, by name: what they stand on was changed since."""
    known = frozenset(domain.name for domain in desk.config.domains)
    return await desk.store.read(_faults, known)


async def template_of(tx: Transaction, name: str) -> ThingTemplate:
    """Return the template that a client names; raises `NotFoundError`."""
    record = await load_template(tx, name) if TEMPLATE_NAME.fullmatch(name) else None
    if record is None:
        raise _unknown(name)
    return read_template(record.name, record.text)


def read_template(name: str, text: str) -> ThingTemplate:
    """Read a template from its TOML.

    Raises:
        BadInputError: with the line, and what to do.
    """
    source = f"template {name[:40]}"
    if TEMPLATE_NAME.fullmatch(name) is None:
        raise BadInputError(
            f"{name[:40]!a} is no name of a template: 1 to 36 of A-Z a-z 0-9 _ -", hint="such as line3"
        )
    try:
        members = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInputError(f"{source}: {error}", hint="see https://toml.io for the syntax") from error
    top = Section(members, where=Where(source=source, text=text), path=())
    template = ThingTemplate(
        name=name,
        domain=top.label("domain"),
        batches=_batches(top),
        parameters=_parameters(top.section("parameters")),
        device_id=top.text("device_id", "", longest=_LONGEST_PATTERN),
        configuration=_configuration(top.section("configuration")),
    )
    _require_known(top, template)
    top.close()
    return template


def _batches(top: Section) -> tuple[str, ...]:
    batches = top.texts("batches", (), most=_MOST)
    try:
        return tuple(parse_domain(batch) for batch in batches)  # names of batches are DNS labels, too
    except MalformedMessageError as error:
        raise top.error("batches", f"batch {error}", hint="fleet claim list --batches") from error


def _parameters(section: Section) -> tuple[Parameter, ...]:
    names = section.names()
    if len(names) > _MOST or not all(PARAMETER_NAME.fullmatch(name) for name in names):
        raise section.error(
            None,
            f"parameters must be at most {_MOST} tables, each named by letters, digits and _",
            hint="such as [parameters.SerialNumber]",
        )
    return tuple(_parameter(section.section(name), name) for name in names)


def _parameter(section: Section, name: str) -> Parameter:
    pattern = section.text("pattern", "", longest=_LONGEST_PATTERN)
    try:
        re.compile(pattern)
    except re.error as error:
        raise section.error(
            "pattern", f"pattern is no regular expression: {error}", hint='such as "SN[0-9]{6}"'
        ) from error
    found = Parameter(name=name, required=section.flag("required", default=True), pattern=pattern)
    section.close()
    return found


def _configuration(section: Section) -> tuple[tuple[str, str], ...]:
    names = section.names()
    if len(names) > _MOST:
        raise section.error(None, f"configuration has more than {_MOST} settings", hint="leave some out")
    return tuple((name, section.text(name, "", longest=_LONGEST_SETTING)) for name in names)


def _require_known(top: Section, template: ThingTemplate) -> None:
    """Let the device id be made of required parameters alone: it must always follow."""
    required = {parameter.name for parameter in template.parameters if parameter.required}
    if unknown := sorted(set(PLACEHOLDER.findall(template.device_id)) - required):
        raise top.error(
            "device_id",
            f"device_id has {unknown[0][:64]!a}, which is no required parameter",
            hint="add [parameters.NAME] with required = true",
        )


def _require_domain(config: Config, template: ThingTemplate) -> ThingTemplate:
    if config.domain(template.domain) is None:
        names = ", ".join(domain.name for domain in config.domains)
        raise NotFoundError(f"there is no domain {template.domain!r}", hint=f"this fleet has {names}")
    return template


def _view(record: TemplateRecord) -> TemplateView:
    return TemplateView(template=read_template(record.name, record.text), record=record)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Removal:
    name: str
    actor: str
    at: datetime


async def _add(tx: Transaction, record: TemplateRecord) -> None:
    await put_template(tx, record)
    details = (("name", record.name), ("text", record.text))
    entry = AuditEntry(at=record.added_at, action="template.added", actor=record.added_by, details=details)
    await audit.append(tx, entry)


async def _remove(tx: Transaction, removal: _Removal) -> bool:
    if not await delete_template(tx, removal.name):
        return False
    details = (("name", removal.name),)
    entry = AuditEntry(at=removal.at, action="template.removed", actor=removal.actor, details=details)
    await audit.append(tx, entry)
    return True


async def _faults(tx: Transaction, domains: frozenset[str]) -> dict[str, str]:
    found = {}
    for record in await list_templates(tx, None):
        try:
            template = read_template(record.name, record.text)
        except BadInputError as error:
            found[record.name] = str(error)
            continue
        missing = [name for name in template.batches if await load_batch(tx, template.domain, name) is None]
        if template.domain not in domains:
            found[record.name] = f"there is no domain {template.domain}"
        elif missing:
            found[record.name] = f"{template.domain} has no batch {missing[0]}"
    return found


def _unknown(name: str) -> NotFoundError:
    return NotFoundError(f"there is no template {name[:40]!a}", hint="fleet template list")

"""Templates are handed in as TOML, shown and taken away; what is none is told by its line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.identity import Identity
from fleet.errors import BadInputError, NotFoundError
from fleet.ra import devices
from fleet.ra.requests import templates
from fleet.ra.requests.templates import read_template
from fleet.store import audit
from fleet.store.audit import AuditQuery
from tests.desk import Desk

ADA = "operator:ada"
GOOD = """
domain = "prod"
batches = ["line3"]
device_id = "{SerialNumber}"
[parameters.SerialNumber]
pattern = "SN[0-9]+"
[parameters.Site]
required = false
[configuration]
region = "eu-1"
"""


async def test_a_template_is_handed_in_shown_and_taken_away(desk: Desk) -> None:
    await templates.add(desk.context, "line3", text=GOOD, actor=ADA)
    shown = await templates.show(desk.context, "line3")
    everything = await templates.list_all(desk.context)
    await templates.remove(desk.context, "line3", actor=ADA)

    assert everything == (shown,)
    assert shown.record.text == GOOD
    assert [one.name for one in shown.template.parameters] == ["SerialNumber", "Site"]
    with pytest.raises(NotFoundError):
        await templates.show(desk.context, "line3")
    with pytest.raises(NotFoundError):
        await templates.remove(desk.context, "line3", actor=ADA)
    found = await desk.context.store.read(audit.search, AuditQuery(actor=ADA))
    assert [one.entry.action for one in found] == ["template.added", "template.removed"]


async def test_a_second_one_of_a_name_takes_its_place(desk: Desk) -> None:
    await templates.add(desk.context, "line3", text=GOOD, actor=ADA)
    await templates.add(desk.context, "line3", text='domain = "lab"', actor=ADA)

    assert (await templates.show(desk.context, "line3")).template.domain == "lab"


async def test_a_template_of_a_domain_that_is_not_there_is_refused(desk: Desk) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        await templates.add(desk.context, "line3", text='domain = "nowhere"', actor=ADA)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("domain = ", "Invalid value"),
        ("", "domain"),
        ('domain = "prod"\ncolour = "red"', "template line3:2: unknown key 'colour'"),
        ('domain = "prod"\ndevice_id = "{Serial}"', "line3:2: device_id has 'Serial'"),
        (GOOD.replace("{SerialNumber}", "{Site}"), "'Site', which is no required parameter"),
        ('domain = "prod"\n[parameters.Serial]\npattern = "["', "line3:3: pattern is no regular expression"),
        ('domain = "prod"\n[parameters.Serial]\nlength = 3', "unknown key 'length'"),
        ('domain = "prod"\n[parameters."a b"]', "parameters must be"),
        ('domain = "prod"\nbatches = ["Line 3"]', "batch"),
        ('domain = "prod"\n[configuration]\nregion = 3', "region must be text"),
    ],
)
def test_a_template_that_is_none_is_told_by_its_line(text: str, reason: str) -> None:
    with pytest.raises(BadInputError, match=reason.replace("[", r"\[")):
        read_template("line3", text)


async def test_the_doctor_names_a_template_that_stands_on_nothing(desk: Desk) -> None:
    await templates.add(desk.context, "line3", text=GOOD, actor=ADA)
    await templates.add(desk.context, "any", text='domain = "prod"', actor=ADA)

    assert await templates.faults(desk.context) == {"line3": "prod has no batch line3"}
    await devices.register(
        desk.context,
        devices.Registration(identity=Identity(domain="prod", device_id="d2"), batch="line3"),
        actor=ADA,
    )
    assert await templates.faults(desk.context) == {}


@pytest.mark.parametrize("name", ["", "a/b", "x" * 37, "line 3", "\u00e4"])
def test_a_name_is_as_at_aws(name: str) -> None:
    with pytest.raises(BadInputError):
        read_template(name, GOOD)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read_template("line3", 'domain = "prod"\n' + text)
    except BadInputError:
        return

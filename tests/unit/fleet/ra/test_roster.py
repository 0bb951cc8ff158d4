"""Lists of devices: right as a whole, or refused with the line that is wrong."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import BadInputError, NotFoundError
from fleet.model import ClientKind
from fleet.ra.devices import show
from fleet.ra.roster import MAX_TEXT_LENGTH, Imported, ImportFormat, Roster, import_devices, parse_roster
from fleet.store.inventory import DeviceQuery, list_devices
from tests.desk import Desk

ADA = "operator:ada"


def csv_list(text: str) -> Roster:
    return Roster(text=text, format=ImportFormat.CSV, domain="prod")


def json_list(text: str) -> Roster:
    return Roster(text=text, format=ImportFormat.JSONL, domain="prod")


BOTH = [
    csv_list('device_id,kind,batch,note\nd1,plain,line3,"shelf 4, left"\nd2,,,\n'),
    json_list(
        '{"device_id":"d1","kind":"plain","batch":"line3","note":"shelf 4, left"}\n\n{"device_id":"d2"}\n'
    ),
]


@pytest.mark.parametrize("roster", BOTH, ids=lambda each: each.format.value)
async def test_a_list_is_registered(desk: Desk, roster: Roster) -> None:
    assert await import_devices(desk.context, roster, actor=ADA) == Imported(listed=2, registered=2)
    (first, second) = await desk.context.store.read(list_devices, DeviceQuery())
    view = await show(desk.context, first.identity)
    assert (view.record.kind, view.record.batch, view.record.note) == (
        ClientKind.PLAIN,
        "line3",
        "shelf 4, left",
    )
    assert second.identity.name == "prod:d2"


async def test_a_list_that_comes_twice_registers_what_is_new(desk: Desk) -> None:
    await import_devices(desk.context, csv_list("device_id\nd1\n"), actor=ADA)
    again = await import_devices(desk.context, csv_list("device_id\nd1\nd2\n"), actor=ADA)
    assert again == Imported(listed=2, registered=1)


async def test_a_long_list_is_registered_whole(desk: Desk) -> None:
    text = "device_id\n" + "".join(f"d{number:04}\n" for number in range(1200))
    imported = await import_devices(desk.context, csv_list(text), actor=ADA)
    assert imported == Imported(listed=1200, registered=1200)


async def test_a_domain_that_the_fleet_has_not_registers_nothing(desk: Desk) -> None:
    with pytest.raises(NotFoundError, match="no domain elsewhere"):
        await import_devices(desk.context, csv_list("device_id,domain\nd1,prod\nd2,elsewhere\n"), actor=ADA)
    assert await desk.context.store.read(list_devices, DeviceQuery()) == ()


@pytest.mark.parametrize(
    ("roster", "said"),
    [
        (csv_list(""), "line 1: must name device_id"),
        (csv_list("id\nd1\n"), "line 1: must name device_id"),
        (csv_list("device_id,colour\nd1,red\n"), "line 1: must name device_id"),
        (csv_list("device_id,device_id\nd1,d1\n"), "line 1: must name device_id"),
        (csv_list("device_id\nd1\nd1\n"), "line 3: prod:d1 is listed twice"),
        (csv_list("device_id\nd1,d2\n"), "line 2: 2 values for 1 columns"),
        (csv_list('device_id\n"d1\n'), "no CSV"),
        (csv_list("device_id\na/b\n"), "line 2: device id must be"),
        (csv_list("device_id,domain\nd1,Prod\n"), "line 2: name must be a DNS label"),
        (csv_list("device_id,kind\nd1,robot\n"), "line 2: 'robot' is not a valid ClientKind"),
        (csv_list("device_id,batch\nd1,../x\n"), "line 2: name must be a DNS label"),
        (csv_list("device_id,note\nd1,a\tb\n"), "line 2: note must be printable"),
        (csv_list(f"device_id,note\nd1,{'x' * 201}\n"), "line 2: note must be printable"),
        (json_list("[]\n"), "line 1: body must be a JSON object"),
        (json_list("{\n"), "line 1: body is not JSON"),
        (json_list('{"device_id":7}\n'), "line 1: device_id must be printable text"),
        (json_list('{"device_id":"d1","colour":"red"}\n'), "line 1: must name device_id"),
        (json_list('{"device_id":"d\\u0000"}\n'), "line 1: device_id must be printable text"),
        (json_list('{"device_id":"d1"}\n{"device_id":"d1"}\n'), "line 2: prod:d1 is listed twice"),
        (json_list("x" * (MAX_TEXT_LENGTH + 1)), "the list is longer than"),
    ],
)
def test_a_list_that_is_wrong_says_where(roster: Roster, said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        parse_roster(roster)


@given(text=st.text(max_size=200), form=st.sampled_from(ImportFormat), head=st.booleans())
def test_any_text_is_a_list_or_refused(text: str, form: ImportFormat, head: bool) -> None:
    with suppress(BadInputError):
        parse_roster(Roster(text=("device_id,note\n" if head else "") + text, format=form, domain="prod"))

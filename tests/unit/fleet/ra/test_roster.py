"""Lists of devices: right as a whole, or refused with the line that is wrong."""

import base64
import json
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.fields import Fields
from device_agent.wire.identity import Identity
from device_agent.wire.problems import MalformedMessageError
from fleet.attest.secure_elements import Signer, UnfitEntryError, read_element
from fleet.core.things import key_thing
from fleet.errors import BadInputError, NotFoundError
from fleet.model import ClientKind
from fleet.ra.devices import show
from fleet.ra.people.roster import MAX_TEXT_LENGTH, Imported, ImportFormat, Roster, import_devices, read_rows
from fleet.ra.people.roster_rows import rows_of
from fleet.store.inventory import DeviceQuery, list_devices
from fleet.store.listed import listings_of
from tests.desk import NOON, Desk
from tests.est import new_key
from tests.manifests import ManifestMaker

ADA = "operator:ada"


def csv_list(text: str) -> Roster:
    return Roster(text=text, format=ImportFormat.CSV, domain="prod")


def json_list(text: str) -> Roster:
    return Roster(text=text, format=ImportFormat.JSONL, domain="prod")


def array(text: str) -> Roster:
    return Roster(text=text, format=ImportFormat.AUTO, domain="prod")


HASH = "ab" * 32
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
        (csv_list("device_id\nd1\nd1\n"), "line 3: prod:d1 is listed twice, first at line 2"),
        (csv_list(f"device_id,ek\nd1,{HASH}\nd2,{HASH}\n"), "line 3: its ek is that of prod:d1 at line 2"),
        (csv_list("device_id,ek\nd1,short\n"), "line 2: ek must be a SHA-256 in hex"),
        (csv_list("device_id,certificate\nd1,MAA=\n"), "line 2: certificate must be a SHA-256 in hex"),
        (csv_list("device_id,certificate_serial\nd1,0a1b\n"), "line 2: certificate_serial must be"),
        (array('[{"device_id":"d1"},7]'), "entry 2: it is no JSON object"),
        (array('[{"device_id":"d1"} {"device_id":"d2"}]'), "entry 1: neither another entry nor the end"),
        (array('[{"device_id":"d1"}] more'), "the end: something follows"),
        (array('[{"device_id":"d1"'), "entry 1: it is not JSON"),
        (array('[{"device_id":"d1"},]'), "entry 2: it is not JSON"),
        (array("[" * 5000), "entry 1: it is n"),
        (
            replace(array('{"device_id":"d1"}'), format=ImportFormat.JSON),
            "the beginning: it is no JSON array",
        ),
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
async def test_a_list_that_is_wrong_says_where(roster: Roster, said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        await read_rows(roster)


@given(text=st.text(max_size=200), form=st.sampled_from(ImportFormat), head=st.booleans())
def test_any_text_is_a_list_or_refused(text: str, form: ImportFormat, head: bool) -> None:
    with suppress(BadInputError):
        list(rows_of(Roster(text=("device_id,note\n" if head else "") + text, format=form, domain="prod")))


def elements(entries: list[dict[str, object]], maker: ManifestMaker) -> Roster:
    signer = Signer(maker.certificate, at=NOON)
    return Roster(text=json.dumps(entries), format=ImportFormat.AUTO, domain="prod", signer=signer)


async def test_what_a_device_comes_with_is_on_file_however_it_was_written(desk: Desk) -> None:
    key = new_key().public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    plain, hashed = base64.b64encode(der).decode(), key_thing(der).value
    ways = [
        csv_list(f"device_id,public_key\nd1,{plain}\n"),
        csv_list(f"device_id,public_key\nd1,{hashed.upper()}\n"),
        array(json.dumps([{"device_id": "d1", "public_key": plain}])),
    ]

    first, *others = [await import_devices(desk.context, way, actor=ADA) for way in ways]

    assert first == Imported(listed=1, registered=1, things=1)
    assert others == [Imported(listed=1, registered=0, things=0)] * 2
    (listing,) = await desk.context.store.read(listings_of, Identity(domain="prod", device_id="d1"))
    assert (listing.thing, listing.source) == (key_thing(der), ADA)


async def test_what_is_one_devices_is_not_given_to_another_and_nothing_is_registered(desk: Desk) -> None:
    await import_devices(desk.context, csv_list(f"device_id,ek\nd1,{HASH}\n"), actor=ADA)
    with pytest.raises(BadInputError, match="line 3: its ek is listed for prod:d1"):
        await import_devices(desk.context, csv_list(f"device_id,ek\nd2,\nd3,{HASH}\n"), actor=ADA)
    assert len(await desk.context.store.read(list_devices, DeviceQuery())) == 1


async def test_an_array_may_be_empty_or_spread_over_lines(desk: Desk) -> None:
    assert await read_rows(array("\ufeff [ ]\n")) == ()
    rows = await read_rows(array('[\n {"device_id": "d1"} ,\n {"device_id": "d2"}\n]\n'))
    assert [row.place for row in rows] == ["entry 1", "entry 2"]


async def test_a_signed_manifest_registers_its_parts_with_all_their_keys(desk: Desk) -> None:
    maker = ManifestMaker(at=NOON)
    entries = [
        maker.entry("0123f1822c38dd7a01", new_key().public_key(), new_key().public_key()),
        maker.entry("0123f1822c38dd7a02", new_key().public_key()),
    ]
    imported = await import_devices(desk.context, elements(entries, maker), actor=ADA)
    assert imported == Imported(listed=2, registered=2, things=3)


def tampered(entry: dict[str, object], **members: object) -> dict[str, object]:
    return entry | members


def header_of(maker: ManifestMaker, **members: object) -> dict[str, object]:
    return maker.header | members


MAKER, OTHER = ManifestMaker(at=NOON), ManifestMaker(at=NOON)
PART = new_key().public_key()
GOOD = MAKER.entry("part1", PART)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"uniqueId": "part2"}, "it is not signed"),
        (tampered(GOOD, signature=OTHER.entry("part1", PART)["signature"]), "signature is not the signer's"),
        (tampered(GOOD, payload=MAKER.entry("part9", PART)["payload"]), "signature is not the signer's"),
        (OTHER.entry("part1", PART), "it names another signer's certificate"),
        (MAKER.entry("part1", PART, header=header_of(MAKER, alg="none")), "another algorithm than ES256"),
        (MAKER.entry("part1", PART, header=header_of(MAKER, alg="HS256")), "another algorithm than ES256"),
        (MAKER.entry("part1", PART, header=header_of(MAKER, crit=["b64"])), "extensions that must be"),
        (tampered(GOOD, signature="AAAA"), "its signature is none of ES256"),
        (tampered(GOOD, protected="a+b="), "not base64url"),
        (MAKER.entry("part/1", PART), "device id must be"),
        (MAKER.entry("part1"), "it has no public key"),
        (MAKER.sign(b"[]", header=MAKER.header), "no JSON object"),
    ],
)  # fmt: skip
async def test_one_bad_entry_in_a_signed_manifest_registers_nothing(
    desk: Desk, bad: dict[str, object], said: str
) -> None:
    roster = elements([MAKER.entry("good", new_key().public_key()), bad], MAKER)
    with pytest.raises(BadInputError, match=f"entry 2: .*{said}"):
        await import_devices(desk.context, roster, actor=ADA)
    assert await desk.context.store.read(list_devices, DeviceQuery()) == ()


def test_a_signer_whose_certificate_is_over_signs_no_manifest() -> None:
    maker = ManifestMaker(at=NOON, lifetime=timedelta(days=900))
    with pytest.raises(UnfitEntryError, match="in force from"):
        Signer(maker.certificate, at=NOON)


async def test_a_signed_manifest_needs_a_signer_and_a_plain_list_takes_none(desk: Desk) -> None:
    text = json.dumps([GOOD])
    with pytest.raises(BadInputError, match="are signed"):
        await read_rows(Roster(text=text, format=ImportFormat.AUTO, domain="prod"))
    signer = Signer(MAKER.certificate, at=NOON)
    with pytest.raises(BadInputError, match="only the entries of secure elements"):
        await read_rows(
            Roster(text="device_id\nd1\n", format=ImportFormat.AUTO, domain="prod", signer=signer)
        )


@given(entry=st.dictionaries(st.sampled_from(["payload", "protected", "signature"]), st.text(max_size=60)))
def test_no_entry_breaks_the_reader(entry: dict[str, str]) -> None:
    with pytest.raises((UnfitEntryError, MalformedMessageError)):
        read_element(Fields(entry), Signer(MAKER.certificate, at=NOON))

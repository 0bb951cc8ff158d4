"""The database and the memory answer a query alike, by whatever index; nothing of it gets into the SQL."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_agent.wire.identity import Identity
from fleet.core.marking import Marks
from fleet.core.query import Condition, holds
from fleet.core.query_fields import FIELDS, FieldKind
from fleet.core.query_text import parse_query
from fleet.errors import BadInputError, StoreError
from fleet.model import Standing
from fleet.ports import Transaction, Value
from fleet.store import groups, inventory, marks, search_ways, views
from fleet.store.devices import DeviceRecord, insert_devices
from fleet.store.groups import Group
from fleet.store.inventory import DeviceQuery
from fleet.store.search import where
from fleet.store.search_ways import Search
from fleet.store.sqlite import SqliteStore, memory_store
from fleet.store.times import text as time_text

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
WORDS = ["", "a", "ab", "b*", "A", "é", "it's", 'say "x"', "%", "_", "\\"]
TEXTS = {FieldKind.TEXT, FieldKind.TEXTS}
STATES = ["active", "expired-grace", "expired-final", "revoked", "issued"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One device of a made-up fleet."""

    device_id: str
    domain: str
    word: str
    state: str
    flags: tuple[int, int, int, int]
    hours: int


samples = st.builds(
    Sample,
    device_id=st.text(alphabet="ab1-", min_size=1, max_size=3).map(lambda text: f"d{text}"),
    domain=st.sampled_from(["lab", "prod"]),
    word=st.sampled_from(WORDS),
    state=st.sampled_from(["", *STATES]),
    flags=st.tuples(*[st.integers(0, 1)] * 4),
    hours=st.integers(-50, 50),
)

values = st.sampled_from(WORDS).map(lambda word: '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"')
patterns = values | st.sampled_from(["*", "a*", "*b", "a*b", "*b*", "d*", "da*", "d*1", "lab", "prod", "d1"])


def is_read(text: str) -> bool:
    try:
        parse_query(text)
    except BadInputError:
        return False
    return True


texts = st.builds(
    "{}{}{}".format,
    st.sampled_from([*(name for name, each in FIELDS.items() if each.kind in TEXTS), "attr.site"]),
    st.sampled_from(["=", "!="]),
    patterns,
).filter(is_read)
moments = st.builds(
    "{}{}{}".format,
    st.sampled_from(["expires", "enrolled", "registered", "seen"]),
    st.sampled_from(["<", "<=", ">", ">="]),
    st.sampled_from(["1h", "30h", "2d", "2026-05-01", "2026-05-01T13:00:00Z", "2026-04-30"]),
)
nevers = st.sampled_from(["expires=never", "seen!=never", "enrolled=never", "all"])
standings = st.sampled_from([f"standing={each}" for each in Standing])
terms = texts | moments | nevers | standings
queries = st.recursive(
    terms,
    lambda inner: (
        st.builds("({} or {})".format, inner, inner)
        | st.builds("({} {})".format, inner, inner)
        | st.builds("not {}".format, inner)
    ),
    max_leaves=6,
)


async def fill(tx: Transaction, fleet: Sequence[Sample]) -> None:
    for number, one in enumerate(fleet):
        identity = Identity(domain=one.domain, device_id=one.device_id)
        await insert_devices(
            tx,
            [DeviceRecord(identity=identity, registered_at=NOW - abs(one.hours) * HOUR, hardware=one.word)],
        )
        await _life(tx, one, f"{'00' if number % 5 == 0 else '40'}{number:030x}")
        known = Marks(
            model=one.word,
            owner=one.word,
            tags=(one.word, "b") if one.word else (),
            groups=("a",) if one.hours > 0 else (),
            attributes=(("site", one.word),),
        )
        await marks.save_marks(tx, identity, Marks(), after=known, source="operator:ada")
        await marks.set_version(tx, marks.TellsVersion(identity=identity, version=one.word))


async def _life(tx: Transaction, one: Sample, serial: str) -> None:
    retired, revoked, alarm, suspended = one.flags
    seen = None if one.hours % 7 == 0 else time_text(NOW - abs(one.hours) * HOUR)
    await tx.execute(
        "UPDATE devices SET retired_at = ?, revoked = ?, alarm = ?, suspended = ?, last_seen_at = ?,"
        " current_serial = ?, profile = ? WHERE domain = ? AND device_id = ?",
        (
            time_text(NOW) if retired and one.hours % 2 else None,
            revoked,
            alarm,
            suspended,
            seen,
            serial if one.state and one.state != "issued" else None,
            "ab" if one.hours % 2 else "",
            one.domain,
            one.device_id,
        ),
    )
    if one.state:
        await tx.execute(
            "INSERT INTO certificates (serial, purpose, name, domain, device_id, key_hash, state, profile,"
            " issuer, fingerprint, not_after, created_at, changed_at)"
            " VALUES (?, 'device', ?, ?, ?, 'k', ?, ?, 'a', ?, ?, ?, ?)",
            (
                serial,
                f"{one.domain}:{one.device_id}",
                one.domain,
                one.device_id,
                one.state,
                one.word,
                serial,
                time_text(NOW + one.hours * HOUR),
                time_text(NOW - abs(one.hours) * HOUR),
                time_text(NOW),
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    fleet: tuple[Sample, ...]
    queries: tuple[str, ...]


async def compare(tx: Transaction, question: Question) -> None:
    for table in (
        "group_members",
        "device_tags",
        "device_attributes",
        "certificates",
        "devices",
        "device_groups",
    ):
        await tx.execute(f"DELETE FROM {table}")
    await groups.insert_group(tx, Group(name="a", made_at=NOW))
    await groups.insert_group(tx, Group(name="ab", query="tag=ab or expires<30h", made_at=NOW))
    await fill(tx, question.fleet)
    everyone = await inventory.list_devices(tx, DeviceQuery(limit=1000))
    for text in question.queries:
        condition = parse_query(text).condition
        asked = await groups.asked_groups(tx, condition)
        expected = []
        for one in everyone:
            view = await views.view_of(tx, one.identity)
            assert view is not None
            assert view.standing is one.standing
            if holds(asked, view, now=NOW):
                expected.append(one.identity)
        assert await _paged(tx, condition) == expected, text
        assert await inventory.count_devices(tx, DeviceQuery(condition=condition, now=NOW)) == len(expected)
        await _by_every_way(tx, asked, expected)


async def _paged(tx: Transaction, condition: Condition) -> list[Identity]:
    found: list[Identity] = []
    query = DeviceQuery(condition=condition, now=NOW, limit=2)
    while page := await inventory.list_devices(tx, query):
        found += [each.identity for each in page]
        query = replace(query, after=(found[-1].domain, found[-1].device_id))
    return found


async def _by_every_way(tx: Transaction, condition: Condition, expected: list[Identity]) -> None:
    search = Search(condition=condition, now=NOW, limit=1000)
    for way in search_ways.ways(condition, NOW):
        found = search_ways.page("1", search, way)
        rows = await tx.fetch_all(found.text, found.values)
        assert [Identity(domain=str(row[0]), device_id=str(row[1])) for row in rows] == expected, way


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fleet=st.lists(samples, max_size=8, unique_by=lambda one: (one.domain, one.device_id)).map(tuple),
    asked=st.lists(queries, min_size=8, max_size=8).map(tuple),
)
async def test_the_database_and_the_memory_agree(
    store: SqliteStore, fleet: tuple[Sample, ...], asked: tuple[str, ...]
) -> None:
    await store.write(compare, Question(fleet=fleet, queries=asked))


@pytest.fixture
async def store() -> object:
    async with memory_store() as opened:
        yield opened


@given(st.text())
def test_no_word_of_a_query_gets_into_the_sql(word: str) -> None:
    quoted = '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
    try:
        condition = parse_query(
            f"tag={quoted} or attr.x={quoted} or batch={quoted} or issuer!={quoted}"
        ).condition
    except BadInputError:
        return
    plain = parse_query("tag=x or attr.x=x or batch=x or issuer!=x").condition
    found = where(condition, now=None)
    if word:
        assert found.text == where(plain, now=None).text
    assert found.text.count("?") == len(found.values)


def test_a_duration_without_a_time_to_count_from_is_a_defect() -> None:
    with pytest.raises(StoreError):
        where(parse_query("expires<1d").condition, now=None)


USUAL: dict[str, str] = {
    "id=d1": "devices_by_id",
    "domain=prod id=d*": "sqlite_autoindex_devices_1",
    "id=d*": "devices_by_id",
    "batch=spring": "devices_in_batch",
    "tag=outdoor": "sqlite_autoindex_device_tags_1",
    "tag=outdoor or tag=indoor": "sqlite_autoindex_device_tags_1",
    "tag=outdoor standing=active": "sqlite_autoindex_device_tags_1",
    "group=pilot": "sqlite_autoindex_group_members_1",
    "owner=acme": "devices_of_owner",
    "model=TX": "devices_of_model",
    "attr.site=berlin": "attributes_by_value",
    "station=line3": "sqlite_autoindex_station_units_1",
    "standing=retired": "devices_retired",
    "standing=revoked": "devices_revoked",
    "standing=suspended": "devices_in_trouble",
    "standing=alarmed": "devices_in_trouble",
    "standing=expired": "certificates_expired",
    "expires<30d": "certificates_expiring",
    "enrolled<1d": "certificates_first",
}


@pytest.mark.parametrize("text", USUAL)
async def test_a_usual_query_goes_by_an_index(store: SqliteStore, text: str) -> None:
    async def plan(tx: Transaction, condition: Condition) -> list[str]:
        search = Search(condition=condition, now=NOW)
        found = search_ways.page("d.kind", search, await search_ways.choose(tx, search))
        values: tuple[Value, ...] = found.values
        return [str(row[3]) for row in await tx.fetch_all(f"EXPLAIN QUERY PLAN {found.text}", values)]

    plans = await store.read(plan, parse_query(text).condition)
    assert any(USUAL[text] in line for line in plans), plans
    assert not [line for line in plans if line.startswith("SCAN d")], plans

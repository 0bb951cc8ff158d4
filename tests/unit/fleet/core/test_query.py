"""The query language: what it reads, what it refuses and where, and what it means of a device in memory."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fleet.cli import query_reference
from fleet.core.query import Everything, Query, View, expand, fields_of, holds, matches
from fleet.core.query_fields import FIELDS
from fleet.core.query_text import DEEPEST, LONGEST_QUERY, MOST_TERMS, parse_query
from fleet.errors import BadInputError
from fleet.model import Standing

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
VIEW = View(
    domain="prod",
    device_id="line3-0042",
    standing=Standing.ACTIVE,
    batch="spring",
    profile="sensor",
    model="TX 200",
    hardware="SN-77",
    owner="acme",
    version="1.4.2",
    groups=frozenset({"pilot"}),
    tags=frozenset({"outdoor", "roof"}),
    issuers=frozenset({"ab12", "prod/device-1"}),
    stations=frozenset({"line3"}),
    attributes={"site": "Berlin *1*"},
    expires=NOW + 20 * DAY,
    enrolled=NOW - 70 * DAY,
    registered=NOW - 71 * DAY,
)


def fits(text: str) -> bool:
    return matches(parse_query(text), VIEW, now=NOW)


@pytest.mark.parametrize(
    "text",
    [
        "all",
        "domain=prod",
        "domain=prod batch=spring prefix=line3- standing=active",  # as queries were before
        "domain=prod and batch=spring",
        "id=line3-*",
        "id=*-0042",
        "id=l*2",
        "id=*3-00*",
        'model="TX 200"',
        "model='TX 200'",
        "model=*",
        'hardware!=""',
        "tag=outdoor tag=roof",
        "tag=o*",
        "not tag=indoor",
        "tag!=indoor",
        "group=pilot or group=late",
        "issuer=prod/device-1 and issuer=ab*",
        'attr.site="Berlin *1*"',
        "attr.site=Berl*",
        'attr.hall=""',
        "expires<30d",
        "expires>=20d and expires<=20d",
        "not expires<20d",
        "enrolled>=2026-02-20 enrolled<=2026-02-20 enrolled=2026-02-20",
        "enrolled>69d and enrolled<71d",
        "enrolled<=2026-02-20T12:00:00Z",
        "registered<71d or registered=2026-02-19T12:00:00Z",
        "seen=never",
        "NOT (seen<1d OR standing!=active) AND version=1.4.*",
        "not not (owner=acme)",
        "domain=lab or domain=prod and station=line3",
    ],
)
def test_a_query_finds_a_device(text: str) -> None:
    assert fits(text)
    assert not fits(f"not ({text})")


@pytest.mark.parametrize(
    "text",
    [
        "(domain=lab or domain=prod) and station=line4",
        "id=LINE3-0042",
        "id=line3-0042x*",
        "id=line3-0042*0042",
        'hardware="SN-*"',
        'model=""',
        "attr.hall=*",
        "seen<1d",
        "seen>1d",
        "expires=never",
        "tag!=outdoor",
        "enrolled<2026-02-20",
        "enrolled>2026-02-20",
        "enrolled<70d",
    ],
)
def test_a_query_passes_a_device_over(text: str) -> None:
    assert not fits(text)


@pytest.mark.parametrize(
    ("text", "at", "why"),
    [
        ("colour=red", 1, "there is no field colour"),
        ("domain=prod colour=red", 13, "there is no field colour"),
        ("domain", 7, "domain is followed by no operator"),
        ("domain=", 8, "domain= has no value"),
        ("domain=)", 8, "domain= has no value"),
        ("domain<prod", 7, "domain compares by = and != alone"),
        ("domain=A", 8, "name must be a DNS label"),
        ("id=line.3", 4, "device id must be"),
        ("standing=asleep", 10, "standing is never asleep"),
        ("standing=act*", 10, "standing is never act*"),
        ("id=a*b*c", 4, "* cannot stand there in a*b*c"),
        ("id=**", 4, "* cannot stand there in **"),
        ("(domain=prod", 1, "this parenthesis is not closed"),
        ("domain=prod)", 12, ") closes nothing"),
        ("domain=prod or", 15, "a term is missing"),
        ("()", 2, "a term is missing"),
        ("not", 4, "a term is missing"),
        ('id="line3', 4, "a quote must be closed"),
        ("expires<soon", 9, "soon is no time"),
        ("expires=30d", 9, "a duration does not compare by ="),
        ("expires!=2026-01-01", 10, "a time does not compare by !="),
        ("expires<never", 8, "expires compares by = and != alone"),
        ("seen<99999999w", 6, "is longer than"),
        ("seen<2026-02-30", 6, "day is out of range for month"),
        ("seen<0001-01-01", 6, "too far away"),
        ("a\x00=b", 2, "a control character does not belong here"),
        ("attr.=x", 1, "there is no field attr."),
        ("id=\ud800", 4, "a control character"),
    ],
)
def test_what_is_no_query_is_refused_where_it_stops_being_one(text: str, at: int, why: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse_query(text)
    assert f"at character {at}: " in str(caught.value)
    assert why in str(caught.value) or why in str(caught.value.hint)


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_an_empty_query_is_refused_and_told_how_to_mean_everything(text: str) -> None:
    with pytest.raises(BadInputError, match="the query is empty") as caught:
        parse_query(text)
    assert "all" in str(caught.value.hint)


@pytest.mark.parametrize(
    "text",
    [
        "a" * (LONGEST_QUERY + 1),
        " ".join(["tag=x"] * (MOST_TERMS + 1)),
        "(" * (DEEPEST + 2) + "tag=x" + ")" * (DEEPEST + 2),
        "not " * (DEEPEST + 2) + "tag=x",
    ],
)
def test_length_terms_and_depth_are_capped(text: str) -> None:
    with pytest.raises(BadInputError):
        parse_query(text)


def test_only_who_says_all_says_everything() -> None:
    assert parse_query("all").says_all
    assert parse_query("batch=spring all").says_all
    assert not parse_query("batch=spring").says_all
    assert not parse_query("batch=spring or all").says_all
    assert not parse_query("not all").says_all


@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
def test_every_field_has_an_example_that_is_a_query(field: object) -> None:
    assert parse_query(getattr(field, "example")).condition != Everything()  # noqa: B009


def test_a_group_that_is_a_query_is_asked_as_one() -> None:
    groups = {"roofs": parse_query("tag=roof").condition, "old": parse_query("version=0.*").condition}
    for text, expected in (("group=roofs", True), ("group=old", False), ("not group=r*", False)):
        assert holds(expand(parse_query(text).condition, groups), VIEW, now=NOW) is expected


def test_a_query_names_the_fields_that_it_asks_for() -> None:
    asked = fields_of(parse_query("not (tag=x or attr.site=y) and expires<1d and seen=never").condition)
    assert asked == {"tag", "attr.site", "expires", "seen"}


@given(st.text())
@example("tag=x\n")
@example("'\\")
def test_any_text_is_a_query_or_refused(text: str) -> None:
    try:
        found = parse_query(text)
    except BadInputError:
        return
    assert isinstance(found, Query)


_PIECES = [
    *"()=<>!*\"'\\ ",
    "<=",
    "and",
    "or",
    "not",
    "all",
    "never",
    "30d",
    "2026-01-01",
    "prefix",
    "attr.x",
    *FIELDS,
]


@given(
    st.lists(st.sampled_from(_PIECES), max_size=12).map(" ".join)
    | st.lists(st.sampled_from(_PIECES)).map("".join)
)
def test_any_text_of_its_own_words_is_a_query_or_refused(text: str) -> None:
    try:
        found = parse_query(text)
    except BadInputError:
        return
    assert isinstance(matches(found, VIEW, now=NOW), bool)


def test_the_reference_is_what_the_fields_say() -> None:
    page = Path(__file__).parents[4] / "docs/reference/query-language.md"
    assert page.read_text() == query_reference.text(), "python -m fleet.cli.query_reference"

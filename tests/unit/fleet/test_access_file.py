"""The access policy as a file: what is read, and that everything else is refused with its line."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.access_file import DEFAULT_TEXT, parse
from fleet.core.policy import Condition
from fleet.errors import BadInputError
from fleet.grants import Effect

TEXT = """\
[[allow]]
name = "own topics"
publish = ["devices/{domain}/{id}/#"]

[[deny]]
name = "north keeps quiet"
when = { group = "north", attr.site = ["a", "b"], assurance = "code" }
publish = [
    "devices/{domain}/{id}/raw/#",
]
"""


def test_a_policy_is_read_with_the_line_of_each_rule_and_pattern() -> None:
    allow, deny = parse(TEXT).rules

    assert (allow.effect, allow.name, allow.line, allow.when) == (Effect.ALLOW, "own topics", 1, ())
    assert (allow.publish[0].text, allow.publish[0].line) == ("devices/{domain}/{id}/#", 3)
    assert (deny.effect, deny.line, deny.publish[0].line) == (Effect.DENY, 5, 9)
    assert Condition(fact="attr.site", values=frozenset({"a", "b"}), line=7) in deny.when


def test_a_policy_tells_what_it_asks_about() -> None:
    assert parse(TEXT).asks == ("assurance", "attr.site", "group")
    assert parse(DEFAULT_TEXT).asks == ()


@pytest.mark.parametrize(
    ("text", "where", "reason"),
    [
        ("[[allow]]\nname =\n", "access.toml:2:", "invalid value"),
        ("[[allow]]\nname = ", "access.toml:2:", "invalid value"),
        ("[fleet]\n", "access.toml:1:", "unknown key 'fleet'"),
        ("[[allow]]\nname = 'a'\nhat = 1\npublish = ['x']", "access.toml:3:", "unknown key 'hat'"),
        ("[[allow]]\npublish = ['x']", "access.toml:1:", "needs a name"),
        ("[[allow]]\nname = 'a'", "access.toml:1:", "says nothing"),
        ("[[allow]]\nname = 'a'\npublish = ['fleet/v1/#']", "access.toml:3:", "the fleet's own"),
        ("[[allow]]\nname = 'a'\npublish = ['$CONTROL/x']", "access.toml:3:", "the fleet's own"),
        ("[[deny]]\nname = 'a'\nsubscribe = ['#']", "access.toml:3:", "must name its first level"),
        ("[[deny]]\nname = 'a'\nsubscribe = ['+/x']", "access.toml:3:", "must name its first level"),
        ("[[allow]]\nname = 'a'\npublish = ['a/#/b']", "access.toml:3:", "level 2"),
        ("[[allow]]\nname = 'a'\npublish = ['a//b']", "access.toml:3:", "level 2"),
        ("[[allow]]\nname = 'a'\npublish = ['a/x{id}']", "access.toml:3:", "level 2"),
        ("[[allow]]\nname = 'a'\npublish = ['a/{grup}']", "access.toml:3:", "unknown variable {grup}"),
        ("[[allow]]\nname = 'a'\nwhen = { hat = 'x' }\nusers = ['u']", "access.toml:3:", "'hat'"),
        ("[[allow]]\nname = 'a'\nwhen = { assurance = 'much' }\nusers = ['u']", "access.toml:3:", "level"),
        ("[[allow]]\nname = 'a'\nwhen = { group = [] }\nusers = ['u']", "access.toml:3:", "group"),
        ("a = " + "[" * 20_000, "access.toml", "lists without end"),
        ("[[allow]]\nname = 'a'\nusers = ['u u']", "access.toml:3:", "users"),
        (
            "[[allow]]\nname = 'a'\nusers = ['u']\n[[allow]]\nname = 'a'\nusers = ['v']",
            "access.toml:4:",
            "line 1 already",
        ),
    ],
)
def test_what_is_not_right_is_refused_with_its_line(text: str, where: str, reason: str) -> None:
    with pytest.raises(BadInputError) as refused:
        parse(text)

    assert str(refused.value).startswith(where)
    assert reason in str(refused.value)
    assert refused.value.hint


@pytest.mark.parametrize(
    "pattern",
    ["devices/+/+/#", "devices/#", "devices/{domain}/+/x", "devices/{domain}/{group}/x", "devices/+/{id}/x"],
)
def test_topics_of_other_devices_are_granted_only_where_the_rule_says_that_it_means_them(
    pattern: str,
) -> None:
    text = f"[[allow]]\nname = 'a'\nsubscribe = ['{pattern}']\n"
    with pytest.raises(BadInputError, match=r"access\.toml:3: it reaches the topics of other devices"):
        parse(text)

    assert parse(text + "others = true\n").rules[0].others


@given(st.text(max_size=300) | st.binary(max_size=200).map(lambda data: data.decode("latin-1")))
def test_garbage_is_refused_as_bad_input(text: str) -> None:
    with suppress(BadInputError):
        assert parse(text).rules is not None

"""Filters of the application's subscriptions (MQTT 3.1.1 4.7)."""

import pytest

from device_agent.errors import UsageError
from device_agent.traffic import Traffic, matches


@pytest.mark.parametrize(
    ("topic", "topic_filter", "covered"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("a/b", "a", False),
        ("a", "a/b", False),
        ("a/b", "a/+", True),
        ("a/b/c", "a/+", False),
        ("a", "+", True),
        ("a/b/c", "a/#", True),
        ("a", "a/#", True),
        ("b", "a/#", False),
        ("a/b", "#", True),
        ("a//b", "a/+/b", True),
    ],
)
def test_a_filter_covers_what_the_standard_says(topic: str, topic_filter: str, covered: bool) -> None:
    assert matches(topic, topic_filter) is covered


@pytest.mark.parametrize("topic", ["", "a/#", "+", "a\0b"])
async def test_a_topic_with_a_wildcard_cannot_be_published_to(topic: str) -> None:
    with pytest.raises(UsageError):
        await Traffic().publish(topic, b"")

"""Text that somebody writes freely: any characters, and only characters."""

import pytest

from device_agent.wire.fields import Fields
from device_agent.wire.problems import MalformedMessageError


@pytest.mark.parametrize("text", ["", "ü\n\t\x00", "\U0001f600"])
def test_any_characters_are_text(text: str) -> None:
    assert Fields({"text": text}).any_text("text", longest=10) == text


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "x" * 11, 7, None])
def test_half_a_character_and_too_much_are_none(text: object) -> None:
    with pytest.raises(MalformedMessageError):
        Fields({"text": text}).any_text("text", longest=10)

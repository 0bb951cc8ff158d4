"""Settings in notices: what is written is read again, what is out of bounds refused, the unknown ignored."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.configuration import BOUNDS, AgentConfiguration, NumberedConfiguration
from device_agent.wire.fields import parse_object
from device_agent.wire.problems import MalformedMessageError

settings = st.builds(
    AgentConfiguration,
    **{name: st.none() | st.integers(lowest, highest) for name, (lowest, highest) in BOUNDS.items()},
)


@given(st.builds(NumberedConfiguration, number=st.integers(1, 2**31 - 1), settings=settings))
def test_what_is_written_is_read_again(configuration: NumberedConfiguration) -> None:
    body = json.dumps({"v": 1} | configuration.members()).encode()
    assert NumberedConfiguration.read(parse_object(body)) == configuration


@pytest.mark.parametrize("name", BOUNDS)
def test_a_setting_out_of_its_bounds_is_refused(name: str) -> None:
    for value in (BOUNDS[name][0] - 1, BOUNDS[name][1] + 1, "many", True):
        with pytest.raises(MalformedMessageError):
            AgentConfiguration.read(parse_object(json.dumps({name: value}).encode()))


def test_a_setting_of_a_later_agent_is_passed_over() -> None:
    assert AgentConfiguration.read(parse_object(b'{"tomorrow": 1}')) == AgentConfiguration()

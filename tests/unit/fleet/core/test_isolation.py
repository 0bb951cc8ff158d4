"""Topics of single connections: written and read back, and nothing else taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.problems import MalformedMessageError
from fleet.core import access, isolation
from fleet.core.access import Who
from fleet.core.isolation import SharedLink
from fleet.model import Purpose

LINK = SharedLink(issuer="ab" * 20, serial="4" * 32, client_id="sdk/+#$ 1", name="0011223344556677-12")
CREATE = "$aws/certificates/create-from-csr/json"
SERVICE = Who(purpose=Purpose.SERVICE, name="fleet-server", serial="4" * 32, client_id="fleet-server")


def test_a_topic_reads_as_people_write_it() -> None:
    client = "73646b2f2b23242031"
    inside = f"$fleet/aws/{'ab' * 20}/{'4' * 32}/{client}/0011223344556677-12"

    assert LINK.request(CREATE) == f"{inside}/request/{CREATE}"
    assert LINK.answer(f"{CREATE}/accepted") == f"{inside}/response/{CREATE}/accepted"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=32))
def test_no_client_id_leaves_its_level(client_id: str) -> None:
    link = SharedLink(issuer=LINK.issuer, serial=LINK.serial, client_id=client_id, name=LINK.name)
    topic = link.request(CREATE)

    assert isolation.parse_request(topic) == (link, CREATE)
    assert topic.count("/") == LINK.request(CREATE).count("/")
    assert access.may_receive(SERVICE, topic)
    assert access.may_publish(SERVICE, link.answer(f"{CREATE}/accepted"))


@pytest.mark.parametrize(
    "topic",
    [
        CREATE,
        LINK.answer(CREATE),
        LINK.request("devices/prod/d1"),
        LINK.request(CREATE).replace("$fleet/aws", "fleet/aws"),
        LINK.request(CREATE).replace("4" * 32, "4" * 31),
        LINK.request(CREATE).replace("4" * 32, "A" * 32),
        LINK.request(CREATE).replace("-12", "-012"),
        LINK.request(CREATE).replace("-12", ""),
        LINK.request(CREATE).replace("73646b2f", "ff646b2f"),
        LINK.request(CREATE).replace("73646b2f", "7"),
        "",
    ],
)
def test_what_is_of_no_connection_is_refused(topic: str) -> None:
    with pytest.raises(MalformedMessageError):
        isolation.parse_request(topic)


@given(st.text(max_size=80))
def test_any_topic_is_read_or_refused(topic: str) -> None:
    for parse in (isolation.parse_request, isolation.parse_answer):
        try:
            parse(topic)
        except MalformedMessageError:
            continue

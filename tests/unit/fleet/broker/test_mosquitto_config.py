"""mosquitto.conf: nothing open, and no path that breaks out of its line."""

from pathlib import Path

import pytest

from fleet.broker.mosquitto_config import config_text
from fleet.broker.settings import BrokerFiles, Listeners
from fleet.errors import BadInputError

GUARD = Path("/home/fleet/broker/fleet_guard.so")


def files(folder: Path = Path("/home/fleet/broker")) -> BrokerFiles:
    return BrokerFiles(
        folder=folder,
        certificate=folder / "certificate",
        key=folder / "key",
        operational_roots=folder / "operational_roots",
        bootstrap_roots=folder / "bootstrap_roots",
        operational_issuers=folder / "operational_issuers",
        bootstrap_issuers=folder / "bootstrap_issuers",
        server_trust=folder / "server_trust",
        service_certificate=folder / "service_certificate",
        service_key=folder / "service_key",
    )


def test_both_listeners_demand_certificates_under_their_own_roots_and_read_crls() -> None:
    text = config_text(files(), Listeners(), guard=GUARD, alarm_after_s=60)
    _, operational, bootstrap = text.split("\nlistener ")

    for listener, name, roots in (
        (operational, "operational", "operational.ca.pem"),
        (bootstrap, "bootstrap", "bootstrap_roots"),
    ):
        lines = listener.splitlines()
        assert "require_certificate true" in lines
        assert "tls_version tlsv1.2" in lines
        assert f"cafile /home/fleet/broker/{roots}" in lines
        assert f"crlfile /home/fleet/broker/{name}.crl.pem" in lines


@pytest.mark.parametrize(
    "line",
    ["allow_anonymous false", "set_tcp_nodelay true", "per_listener_settings false", f"plugin {GUARD}"],
)
def test_what_the_broker_must_not_run_without(line: str) -> None:
    assert line in config_text(files(), Listeners(), guard=GUARD, alarm_after_s=60).splitlines()


@pytest.mark.parametrize("name", ["a\nallow_anonymous true", "a\r", "a\x00b", " a/ "])
def test_a_path_that_would_break_out_of_its_line_is_refused(name: str) -> None:
    with pytest.raises(BadInputError):
        config_text(files(Path(name)), Listeners(), guard=GUARD, alarm_after_s=60)

"""The access policy as web servers read it: nginx and Apache take whatever is printed."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.core.relying_map import Mapped, Server, compiled

SERIAL = "41" + "ab" * 15
ROWS = (Mapped(serial=SERIAL, word="prod:d1"), Mapped(serial="42" + "00" * 15, word="reader,writer"))
WORDS = st.from_regex(r"[A-Za-z0-9_.:@=,;-]{1,128}", fullmatch=True)


def test_nginx_maps_the_serial_as_it_writes_it_and_nobody_else() -> None:
    assert list(compiled(ROWS[:1], Server.NGINX, variable="fleet_user")) == [
        "map $ssl_client_serial $fleet_user {",
        '    default "";',
        f'    {SERIAL.upper()} "prod:d1";',
        "}",
    ]


def test_apache_looks_the_serial_up_in_a_text_file() -> None:
    assert list(compiled(ROWS, Server.APACHE, variable="")) == [
        f"{SERIAL.upper()} prod:d1",
        f"42{'00' * 15} reader,writer",
    ]


@pytest.mark.needs("nginx")
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(words=st.lists(WORDS, max_size=5))
def test_nginx_accepts_whatever_a_policy_can_say(tmp_path: Path, words: list[str]) -> None:
    rows = [Mapped(serial=f"41{number:030x}", word=word) for number, word in enumerate(words)]
    text = "\n".join(compiled(rows, Server.NGINX, variable="fleet_user"))
    config = tmp_path / "nginx.conf"
    config.write_text(f"events {{}}\nerror_log stderr;\npid {tmp_path}/pid;\nhttp {{\n{text}\n}}\n")
    done = subprocess.run(
        ["nginx", "-t", "-p", str(tmp_path), "-c", str(config), "-e", "stderr"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr

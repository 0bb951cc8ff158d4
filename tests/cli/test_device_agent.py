"""What `device-agent` prints, and its exit codes."""

import asyncio
import io
import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from device_agent import control
from device_agent.cli import main
from device_agent.core.ladder import Rung, Standing
from device_agent.core.stored import VERSION, StoredRecord, encode
from device_agent.errors import AgentError, BadInputError, ExitCode
from device_agent.options import read_code
from device_agent.recovering import Recovery
from device_agent.store import load_record, open_store
from device_agent.wire.fields import Fields
from device_agent.wire.replies import HttpsAddress
from device_agent.wire.secret import Secret
from tests.device import Table


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def table(tmp_path: Path) -> Table:
    made = Table(folder=tmp_path)
    asyncio.run(made.enroll())
    return made


def run(state: Path, *arguments: str) -> int:
    try:
        return main(["--state", str(state), *arguments])
    except SystemExit as stopped:
        return int(stopped.code or 0)


TOKEN_EXAMPLE = (
    "pkcs11:token=NAME?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/device-agent/pin"
)
CLAIM = ("--claim", "c.crt,c.key")
ENROLL = ("enroll", "--mqtt", "localhost:8884", "--device", "d1")
EST = ("enroll", "--est", "https://localhost:8443/prod", "--device", "d1", "--trust", "t")


@pytest.mark.parametrize(
    ("arguments", "code", "error", "hint"),
    [
        ((), 2, "the following arguments are required: COMMAND", "device-agent --help"),
        (("nonsense",), 2, "argument COMMAND: invalid choice: 'nonsense'", "device-agent --help"),
        (
            ("run", "--lend", "--share", "s"),
            2,
            "argument --share: not allowed with argument --lend",
            "device-agent run --help",
        ),
        (
            ("enroll",),
            2,
            "one of the arguments --serial --mqtt --est is required",
            "device-agent enroll --help",
        ),
        (("enroll", "--mqtt", "h:1"), 2, "enroll --mqtt needs --device", "device-agent enroll --help"),
        (ENROLL, 2, "enroll --mqtt needs --claim", "device-agent enroll --help"),
        (
            ("enroll", "--est", "https://h/prod"),
            2,
            "enroll --est needs --device",
            "device-agent enroll --help",
        ),
        (
            (*EST, "--tpm"),
            2,
            "EST knows neither --adopt nor --tpm",
            "enroll over --mqtt",
        ),
        (
            (*EST, "--piv-attestation", "d"),
            2,
            "EST knows no --piv-attestation",
            "enroll over --mqtt",
        ),
        (
            (*EST, "--claim", "c.crt,c.key", "--idevid", "i.crt,i.key"),
            2,
            "TLS shows one certificate",
            "leave --claim or --idevid out",
        ),
        (
            ("--identity", "Lab", "status"),
            6,
            "identity: name must be a DNS label",
            "--identity lab, named as its domain",
        ),
        ((*ENROLL, *CLAIM), 2, "enroll --mqtt needs --trust", "device-agent enroll --help"),
        (
            (*ENROLL, "--claim", "c.crt", "--trust", "t"),
            2,
            "--claim takes two files",
            "--claim claim.crt,claim.key",
        ),
        (
            ("enroll", "--mqtt", "h", "--device", "d", *CLAIM, "--trust", "t"),
            2,
            "--mqtt takes HOST:PORT",
            "--mqtt fleet.example:8884",
        ),
        (
            ("enroll", "--mqtt", "mqtt://h:8884", "--device", "d", *CLAIM, "--trust", "t"),
            2,
            "--mqtt takes HOST:PORT",
            "--mqtt fleet.example:8884",
        ),
        (
            ("status", "--state", "d1"),
            2,
            "unrecognized arguments: --state d1",
            "--state, --identity and --verbose stand before the command",
        ),
        (
            (*ENROLL, "--key", "pkcs11:token=x"),
            6,
            "this is no URI of a token: it names the token's library, by module-path= and a path from /",
            f"--key '{TOKEN_EXAMPLE}'",
        ),
        (
            (*ENROLL, "--key", "tpm"),
            6,
            "--key must be file:, sealed:, tpm:, or the pkcs11: URI of a token",
            "leave it out for a key in a 0600 file",
        ),
        (
            (*ENROLL, "--tpm", "usb"),
            6,
            "this is no place of a TPM",
            "such as device:/dev/tpmrm0, or swtpm:host=127.0.0.1,port=2321",
        ),
        (
            (*ENROLL, "--tpm", "--key", "file:"),
            2,
            "--tpm keeps the key in the TPM",
            "leave --key out",
        ),
        (
            (*ENROLL, *CLAIM, "--trust", "t", "--idevid", "i.crt,i.key", "--tpm"),
            2,
            "--idevid is a proof by itself",
            "leave --tpm and --code-file out",
        ),
        (
            (*ENROLL, *CLAIM, "--trust", "t", "--piv-attestation", "d", "--tpm"),
            2,
            "--piv-attestation is a proof by itself",
            "a code may stand beside it",
        ),
        (
            (*ENROLL, *CLAIM, "--trust", "/nowhere"),
            6,
            "cannot read /nowhere: no such file or directory",
            "name a file that is there",
        ),
        (("run",), 4, "this device has no certificate yet", "device-agent enroll"),
        (("renew",), 4, "this device has no certificate yet", "device-agent enroll"),
        (("reset",), 2, "reset destroys the identity of this device", "say so with --yes"),
    ],
)
def test_a_command_that_cannot_be_done_says_why_and_what_to_do(
    *,
    arguments: tuple[str, ...],
    code: int,
    error: str,
    hint: str,
    state: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert run(state, *arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0].startswith(f"error: {error}")
    assert lines[1:] == [f"hint: {hint}"]


def test_a_trust_file_that_holds_no_roots_is_bad_input(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trust.pem").write_text("no roots")
    assert run(state, *ENROLL, *CLAIM, "--trust", str(tmp_path / "trust.pem")) == ExitCode.BAD_INPUT
    assert capsys.readouterr().err.startswith("error: the roots to trust cannot be read")


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb\nc" * 200, b"\xff", b"caf\xc3\xa9"])
def test_a_file_without_a_code_is_bad_input(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "code").write_bytes(content)
    with pytest.raises(BadInputError):
        read_code(str(tmp_path / "code"), of="d1")


def test_a_code_comes_from_standard_input_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("ABCD-EFGH\nmore\n"))
    code = read_code("-", of="d1")
    assert code.reveal() == "ABCD-EFGH"
    assert "ABCD" not in repr(code)


def test_status_of_a_blank_device_is_data_and_not_an_error(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(state, "status", "--json") == ExitCode.DONE
    members = json.loads(capsys.readouterr().out)
    assert (members["enrolled"], members["state"], members["running"]) == (False, "blank", False)


def test_status_of_an_enrolled_device_names_it(table: Table, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(table.state, "status") == ExitCode.DONE
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert (lines["enrolled"], lines["domain"], lines["state"]) == ("yes", "prod", "settled")


def test_doctor_names_what_is_wrong_with_its_fix(table: Table, capsys: pytest.CaptureFixture[str]) -> None:
    key = next((table.state / "keys").iterdir())
    key.chmod(0o644)
    assert run(table.state, "doctor", "--json") == ExitCode.NEEDS_ATTENTION
    findings = {found["name"]: found for found in json.loads(capsys.readouterr().out)}
    assert findings["key"]["hint"] == f"chmod 600 {key}"
    assert findings["record"]["ok"]
    assert not findings["agent"]["ok"]


def test_doctor_tells_a_damaged_record(table: Table, capsys: pytest.CaptureFixture[str]) -> None:
    (table.state / "record").write_bytes(b"junk")
    assert run(table.state, "doctor") == ExitCode.NEEDS_ATTENTION
    assert "BAD record: the record is damaged, the one before it is used" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("free", "writable", "text"),
    [(0, True, "is full, so nothing is renewed"), (9, False, "cannot be written, so nothing is renewed")],
)
def test_doctor_tells_of_a_state_folder_that_cannot_take_a_renewal(
    table: Table,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    text: str,
    *,
    writable: bool,
) -> None:
    disk = os.statvfs_result((4096, 4096, 10, free, free, 10, free, free, 0, 255))
    monkeypatch.setattr("device_agent.doctor.os.statvfs", lambda _folder: disk)
    monkeypatch.setattr("device_agent.doctor.os.access", lambda _folder, _mode: writable)
    assert run(table.state, "doctor") == ExitCode.NEEDS_ATTENTION
    shown = capsys.readouterr().out
    assert shown.startswith("BAD state: ")
    assert text in shown.splitlines()[0]


def test_doctor_tells_of_a_hook_that_has_not_succeeded(
    table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = table.state / "post-renew.d"
    folder.mkdir(mode=0o755)
    assert run(table.state, "doctor") == ExitCode.NEEDS_ATTENTION
    assert "hooks: " not in capsys.readouterr().out
    (folder / "10-fails").write_text("#!/bin/sh\nexit 3\n")
    (folder / "10-fails").chmod(0o755)
    run(table.state, "doctor")
    assert "BAD hooks: not succeeded since the identity changed last: 10-fails\n" in capsys.readouterr().out
    (table.state / "hooks.done").write_text("g1\n41\nenrolled\n10-fails")
    run(table.state, "doctor")
    assert "ok  hooks: each has succeeded since the identity changed last\n" in capsys.readouterr().out


def test_doctor_never_sends_its_reader_to_the_doctor(
    table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    next((table.state / "keys").iterdir()).unlink()
    assert run(table.state, "doctor") == ExitCode.NEEDS_ATTENTION
    assert "hint: device-agent doctor" not in capsys.readouterr().out


def test_reset_with_yes_forgets_the_identity(table: Table, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(table.state, "reset", "--yes") == ExitCode.DONE
    assert run(table.state, "status", "--json") == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["enrolled"] is False


def test_a_record_of_a_newer_agent_is_an_error_and_stays(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state.mkdir(mode=0o700)
    newer = encode(StoredRecord()).replace(b" 1 ", f" {VERSION + 1} ".encode(), 1)
    (state / "record").write_bytes(newer)
    for command in ("status", "run", "renew"):
        assert run(state, command) == ExitCode.FAILED
        assert "hint: use the newer agent, nothing was changed" in capsys.readouterr().err
    assert (state / "record").read_bytes() == newer


def test_a_folder_that_another_agent_holds_is_an_error(
    table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_store(table.state):
        assert run(table.state, "run") == ExitCode.FAILED
    assert capsys.readouterr().err.startswith("error: another agent process works in")


async def test_a_running_agent_answers_on_its_socket_and_repeats_errors(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    path = long / "agent.sock"

    async def status(_fields: Fields) -> dict[str, object]:
        return {"name": "prod:d1"}

    async def renew(_fields: Fields) -> dict[str, object]:
        raise AgentError("it is frozen", hint="wait")

    assert await asyncio.to_thread(control.ask, path, "status") is None
    async with control.serving(path, {"status": status, "renew": renew}):
        told = await asyncio.to_thread(control.ask, path, "status")
        refused = await asyncio.to_thread(control.ask, path, "renew")
        unknown = await asyncio.to_thread(control.ask, path, "nonsense")
        assert path.stat().st_mode & 0o777 == 0o600
    assert told == control.Told(members={"name": "prod:d1"}, exit_code=ExitCode.DONE)
    assert refused is not None
    assert (refused.exit_code, refused.error, refused.hint) == (ExitCode.FAILED, "it is frozen", "wait")
    assert unknown is not None
    assert unknown.exit_code is ExitCode.USAGE
    assert not path.exists()


@pytest.mark.parametrize(
    "line", [b"\n", b"junk\n", b'{"do":1}\n', b"{" * 100_000 + b"\n", b"[]\n", b"no end"]
)
async def test_a_caller_that_talks_nonsense_does_not_stop_the_agent(line: bytes, tmp_path: Path) -> None:
    async def status(_fields: Fields) -> dict[str, object]:
        return {}

    path = tmp_path / "agent.sock"
    async with control.serving(path, {"status": status}):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(line)
        writer.write_eof()
        await reader.read()
        writer.close()
        assert await asyncio.to_thread(control.ask, path, "status") is not None


def read_in(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_a_code_that_was_scanned_for_another_device_is_refused_before_it_is_sent(
    table: Table, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for whose in ("prod:d2", "lab:d1"):
        read_in(f"fleet-code:ABCD-EFGH:{whose}\n", monkeypatch)
        assert run(table.state, "recover") == ExitCode.BAD_INPUT
        err = capsys.readouterr().err.splitlines()
        assert err == [
            f"error: the code is for {whose}, and this device is prod:d1",
            "hint: fleet claim create makes one for it",
        ]


def test_a_scanned_code_of_this_device_is_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    read_in("fleet-code:ABCD-EFGH:prod:d1\n", monkeypatch)
    assert read_code("-", of="d1").reveal() == "ABCD-EFGH"


def test_a_blank_device_has_nothing_to_recover(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(state, "recover") == ExitCode.NOT_FOUND
    assert capsys.readouterr().err.splitlines() == [
        "error: there is no identity here to recover",
        "hint: device-agent enroll",
    ]


def test_keys_that_can_be_used_are_not_moved_by_a_recovery(
    table: Table, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_in("ABCD-EFGH\n", monkeypatch)
    assert run(table.state, "recover", "--key", "tpm:") == ExitCode.BAD_INPUT
    assert capsys.readouterr().err.startswith("error: this device has its keys in files already")


async def test_a_running_agent_is_handed_the_code_and_nobody_else_sees_it(
    table: Table, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_in("ABCD-EFGH\n", monkeypatch)
    heard: list[Recovery] = []

    async def recover(fields: Fields) -> dict[str, object]:
        heard.append(Recovery.read(fields))
        return {"name": "prod:d1", "serial": "42"}

    async with control.serving(table.state / "agent.sock", {"recover": recover}):
        arguments = ("recover", "--https", "fleet.example:8443")
        assert await asyncio.to_thread(run, table.state, *arguments) == ExitCode.DONE
    (one,) = heard
    assert one == Recovery(code=Secret("ABCD-EFGH"), https=HttpsAddress(host="fleet.example", port=8443))
    shown = capsys.readouterr()
    assert shown.out == "recovered prod:d1, serial 42\n"
    assert "ABCD" not in shown.out + shown.err + repr(one)


def test_doctor_says_on_which_rung_a_device_stands_since_when_and_what_it_needs(
    table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = load_record(table.state)
    assert loaded is not None
    since = datetime(2026, 5, 1, 12, tzinfo=UTC)
    standing = Standing(rung=Rung.CODE, since=since, why="not-current")
    with open_store(table.state) as store:
        store.save(replace(loaded.record, standing=standing))
    assert run(table.state, "doctor") == ExitCode.NEEDS_ATTENTION
    text = capsys.readouterr().out
    assert (
        "BAD recovery: no certificate of this device works: "
        "not-current, on the rung code since 2026-05-01T12:00:00Z\n"
        "    hint: an operator's code: fleet claim create --domain prod --device d1, "
        "then here: device-agent recover\n"
    ) in text
    assert run(table.state, "status") == ExitCode.DONE
    assert "rung          code\nrung since    2026-05-01T12:00:00Z\nrung why      not-current\n" in (
        capsys.readouterr().out
    )

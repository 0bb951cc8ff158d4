"""`--json` of every command that prints data: its members and their types, for scripts to rely on."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.adopted import OtherFleet
from tests.cli.conftest import copy_home, enroll, environment, served
from tests.pki import pem_of

Shape: TypeAlias = "str | list[Shape] | dict[str, Shape]"

CUT_OFF: Shape = {"broker": "str", "name": "str", "serial": "str", "cut_off_ms": "float"}
CERTIFICATE: dict[str, Shape] = {
    **dict.fromkeys(
        ("serial", "purpose", "name", "domain", "device_id", "state", "key_hash", "issuer"), "str"
    ),
    **dict.fromkeys(("created_at", "changed_at"), "str"),
    **dict.fromkeys(("batch", "parent", "fingerprint", "profile", "not_before", "not_after"), "str?"),
    "attempt": "int",
}
SUMMARY: dict[str, Shape] = {
    **dict.fromkeys(("domain", "device_id", "kind", "standing", "alarm", "registered_at"), "str"),
    **dict.fromkeys(("batch", "serial", "not_after", "last_seen_at"), "str?"),
    **dict.fromkeys(("model", "owner", "agent_version"), "str?"),
    "tags": ["str"],
    "groups": ["str"],
}
MOVE: dict[str, Shape] = {
    **dict.fromkeys(("domain", "device_id", "move", "state", "to_domain", "started_by"), "str"),
    **dict.fromkeys(("started_at", "changed_at"), "str"),
    "number": "int",
}
MARKED: Shape = dict.fromkeys(("found", "changed"), "int")
MOVED: Shape = {**MOVE, "code": "str?", "expires": "str?", "sessions": [CUT_OFF]}
OWNER: Shape = {
    **dict.fromkeys(("owner", "about", "added_at"), "str"),
    "contacts": ["str"],
    "removed_at": "str?",
}
GROUP: Shape = {
    **dict.fromkeys(("group", "note", "made_at"), "str"),
    "query": "str?",
    "devices": "int",
}
CODE: Shape = {
    **dict.fromkeys(("domain", "device_id", "code_id", "kind", "source", "created_at"), "str"),
    **dict.fromkeys(("expires", "closed_at"), "str?"),
    "bound": "bool",
}
WAITING: Shape = {
    **dict.fromkeys(
        ("domain", "device_id", "key_hash", "short_code", "address", "asked_at", "ends_at"), "str"
    ),
    **dict.fromkeys(("proof", "assurance", "evidence", "reason"), "str"),
    "rejected_by": "str?",
    "age_seconds": "int",
}
DELIVERY: Shape = {
    **dict.fromkeys(("receiver", "state", "changed_at"), "str"),
    **dict.fromkeys(("next_at", "answer"), "str?"),
    **dict.fromkeys(("escalation", "attempts"), "int"),
}
NOTIFICATION: Shape = {
    **dict.fromkeys(("notification", "count", "escalated"), "int"),
    **dict.fromkeys(("id", "rule", "matter", "type", "severity", "made_at"), "str"),
    **dict.fromkeys(("owner", "acked_at", "acked_by", "reason"), "str?"),
    "deliveries": [DELIVERY],
}
TOLD = """
[notice.channels.log]
kind = "file"
path = "notices.jsonl"
[[notice.rule]]
name = "all"
events = ["doctor.finding"]
to = ["log"]
gather_minutes = 0
"""
PROOF: Shape = dict.fromkeys(("key_hash", "proof", "assurance", "evidence", "proved_at"), "str")
LISTED: Shape = dict.fromkeys(("thing", "value", "source", "listed_at"), "str")
ENTRY: Shape = {
    "number": "int",
    **dict.fromkeys(("at", "action", "actor", "domain", "device_id", "serial"), "str"),
    "details": "object",
}
DECISION: Shape = {
    **ENTRY,
    **dict.fromkeys(("step", "came", "rule", "saw"), "str"),
    "advice": "str?",
}
DEVICE: Shape = {
    **SUMMARY,
    **dict.fromkeys(("hardware", "note", "assurance"), "str"),
    **dict.fromkeys(("profile", "retired_at"), "str?"),
    "code_conflict": "bool",
    "certificates": [CERTIFICATE],
    "codes": [CODE],
    "waiting": [WAITING],
    "proofs": [PROOF],
    "listed": [LISTED],
    "attributes": "object",
}
ACCESS_CHECKED: dict[str, Shape] = {
    "digest": "str",
    "asks": ["str"],
    "rules": [{**dict.fromkeys(("rule", "effect"), "str"), **dict.fromkeys(("line", "certificates"), "int")}],
}
ACCESS_APPLIED: Shape = {"number": "int", **dict.fromkeys(("changed", "everywhere"), "bool"), "digest": "str"}
SERVICE: dict[str, Shape] = {
    **dict.fromkeys(("service", "added_at"), "str"),
    **dict.fromkeys(("serial", "not_after", "revoked_at"), "str?"),
    "reads": ["str"],
    "writes": ["str"],
}
OUTCOME: Shape = {"domain": "str", "device_id": "str", "action": "str", "sessions": [CUT_OFF]}
ADOPTED = "--ca old.pem --crl old.crl.pem"
ADOPTION: dict[str, Shape] = {
    **dict.fromkeys(("adoption", "domain", "crls_until", "opened_at"), "str"),
    **dict.fromkeys(("listed", "waiting", "here", "moved"), "int"),
    "closed_at": "str?",
}
LEFT: Shape = {
    **dict.fromkeys(("adoption", "domain", "device_id", "issuer", "serial", "fingerprint"), "str"),
    "admitted_at": "str?",
}
ENDED: Shape = {"ended": ["str"], "sessions": [CUT_OFF]}
PLACE: Shape = {"host": "str", "port": "int"}
STATION: dict[str, Shape] = {
    "station": "str",
    "domain": "str",
    "batches": ["str"],
    "quotas": ["str"],
    "serials": ["str"],
    "shifts": ["str"],
    "rate": "int?",
    "added_at": "str",
    "synced_at": "str?",
    "closed_at": "str?",
}
LEASE: dict[str, Shape] = {
    **dict.fromkeys(("lease", "station", "domain", "batch", "issued_at", "not_after"), "str"),
    **dict.fromkeys(("first", "units", "used"), "int"),
    "closed_at": "str?",
}
LEASE_TAKEN: dict[str, Shape] = {
    **dict.fromkeys(("lease", "station", "batch", "not_after"), "str"),
    "units": "int",
}
SYNCED: dict[str, Shape] = {
    **dict.fromkeys(("station", "clock_ahead"), "str"),
    **dict.fromkeys(("forwarded", "confirmed", "entries"), "int"),
}
LINE_OPERATOR: dict[str, Shape] = {
    **dict.fromkeys(("station", "operator", "added_at"), "str"),
    "removed_at": "str?",
}
TEMPLATE: dict[str, Shape] = {
    **dict.fromkeys(("template", "domain", "added_at", "added_by"), "str"),
    "batches": ["str"],
    "parameters": ["str"],
    "required": ["str"],
    "device_id": "str?",
    "configuration": "object",
}
PROFILE: Shape = {
    **dict.fromkeys(("domain", "profile", "assurance"), "str"),
    **{name: ["str"] for name in ("key_types", "usages", "names", "ways_back")},
    **dict.fromkeys(("rsa_bits", "lifetime_days", "backdate_minutes", "devices", "batches"), "int"),
    **dict.fromkeys(("renew_from", "renew_spread"), "float"),
    **dict.fromkeys(("same_key", "approval", "by_label", "server_key", "experimental"), "bool"),
}
ASSIGNMENT: Shape = {"domain": "str", **dict.fromkeys(("profile", "device_id", "batch"), "str?")}
RULING: Shape = {"outcome": "str", **dict.fromkeys(("code", "reason"), "str?"), "terms": "object?"}
WHOSE: dict[str, Shape] = {
    **dict.fromkeys(
        ("place", "domain", "device_id", "name", "serial", "address", "first_at", "last_at"), "str"
    ),
    "times": "int",
}
RUSH: Shape = {"peak": "float", "tries": "int", "seconds": "int"}
CONTACT: Shape = {**WHOSE, "number": "int", "kind": "str", **dict.fromkeys(("cause", "ending"), "str?")}
TROUBLE: Shape = {**WHOSE, **dict.fromkeys(("cause", "meaning", "fix"), "str")}
BROKER: Shape = {
    **dict.fromkeys(("driver", "host"), "str"),
    **dict.fromkeys(("mqtt_port", "mqtt_bootstrap_port", "sequence", "entries", "sessions"), "int"),
    "running": "bool",
    "age_seconds": "float",
}

TRIED = "[domains.prod]\nlifetime_days = 30"
AUTHORITY: dict[str, Shape] = {
    **dict.fromkeys(("name", "kind", "realm", "state", "key", "issuer", "changed_at"), "str"),
    **dict.fromkeys(("purpose", "domain", "anchor", "not_after", "crl_until"), "str?"),
    "room": "int?",
    "leaves": "int",
}
AUTHORITY_DETAILS: dict[str, Shape] = {
    **AUTHORITY,
    "added_at": "str",
    **dict.fromkeys(("chain", "subject", "signed_by", "not_before", "fingerprint"), "str?"),
    **dict.fromkeys(("key_type", "serial", "signature"), "str?"),
    **{key: ["str"] for key in ("lists_at", "status_at", "uses", "constraints")},
    "path_length": "int?",
}
ROLLOVER: dict[str, Shape] = {
    **dict.fromkeys(("realm", "kind", "state", "started_at", "changed_at"), "str"),
    **{key: ["str"] for key in ("gives_up", "brings")},
    "number": "int",
    "version": "int?",
    "next": "str?",
}
GIVEN_UP: Shape = {
    **dict.fromkeys(("name", "root", "state"), "str"),
    **dict.fromkeys(("successor", "revoked"), "str?"),
    **dict.fromkeys(("hastened", "due", "needed_by"), "int"),
    **{key: ["str"] for key in ("needing", "problems")},
    "root_knows": "bool",
}
DOMAIN: dict[str, Shape] = {"domain": "str", "devices": "int", "anchors": ["str"], "issuing": ["str"]}

# In this order, on one served fleet in which alpha has enrolled.
COMMANDS: dict[str, Shape] = {
    "status": {
        **dict.fromkeys(("fleet", "at"), "str"),
        "domains": ["str"],
        "serving": "bool",
        "endpoints": dict.fromkeys(("mqtt", "mqtt_bootstrap", "https", "http"), PLACE),
        "broker": {"driver": "str", "sessions": "int", "list_age_seconds": "float"},
        "devices": "object",
        **dict.fromkeys(("waiting", "admitted", "ending_soon", "audit_entries"), "int"),
        "crls_until": "str?",
        "unsigned": ["str"],
    },
    "doctor": [{"check": "str", "ok": "bool", "text": "str", "fix": "str?"}],
    "connection list": [CONTACT],
    "monitor": [TROUBLE],
    "notice list": [NOTIFICATION],
    "notice test all": [
        {**dict.fromkeys(("receiver", "rule", "answer"), "str"), "arrived": "bool", "hint": "str?"}
    ],
    "forecast simulate --devices 1000": [
        {
            "name": "str",
            "about": "str",
            **dict.fromkeys(("devices", "ended"), "int"),
            "before": RUSH,
            "after": RUSH,
        }
    ],
    "forecast --weeks 2 --ca-down 400d": {
        "at": "str",
        "lines": [{"kind": "str", "next": "str", "within": ["int"]}],
        "weeks": [{"begins": "str", "ends": "object", **dict.fromkeys(("renewals", "busiest_hour"), "int")}],
        "attention": ["str"],
        "outage": {
            "until": "str",
            "days": [{"day": "str", "dark": "int", "lost": "int"}],
            "devices": [{**dict.fromkeys(("domain", "device_id", "not_after"), "str"), "lost": "bool"}],
        },
    },
    "device list": [SUMMARY],
    "device list --waiting": [WAITING],
    "device show prod:alpha": DEVICE,
    "device register lab:beta": DEVICE,
    "device explain prod:alpha": {
        **dict.fromkeys(("domain", "device_id", "verdict"), "str"),
        **dict.fromkeys(("standing", "advice"), "str?"),
        "story": [DECISION],
        "connections": [CONTACT],
        "waiting": [WAITING],
    },
    "device suspend prod:alpha": OUTCOME,
    "device resume prod:alpha": OUTCOME,
    "owner add acme --contact fleet@acme.example": OWNER,
    "owner list": [OWNER],
    "group add pilot": GROUP,
    "group list": [GROUP],
    "device set prod:alpha --owner acme --model TX --attr site=graz": MARKED,
    "device export --query id=alpha": [SUMMARY],
    "move return lab:beta": MOVED,
    "move list": [MOVE],
    "move readmit lab:beta": MOVED,
    "move transfer lab:beta --to prod": MOVED,
    "move cancel lab:beta": MOVED,
    "device retire lab:beta": OUTCOME,
    "device decommission lab:beta": {
        **dict.fromkeys(("domain", "device_id", "retired_at"), "str"),
        "revoked": ["str"],
        "sessions": [CUT_OFF],
        "entries": ["int"],
        "verified": "bool",
        "problem": "str?",
    },
    "device import --domain prod /dev/stdin": dict.fromkeys(("listed", "registered", "things"), "int"),
    "cert list": [CERTIFICATE],
    "cert show {serial}": {**CERTIFICATE, "revoked_at": "str?", "reason": "str?"},
    "cert verify {leaf}": {
        "good": "bool",
        **dict.fromkeys(("standing", "why", "at", "serial"), "str"),
        "certificate": CERTIFICATE,
    },
    "ca backup one.backup --shares-to shares": {
        **dict.fromkeys(("file", "backup", "fleet", "made_at", "sha256", "shares"), "str"),
        **dict.fromkeys(("size", "files"), "int"),
        **{key: ["str"] for key in ("share_files", "passphrases", "keys_elsewhere", "left_out")},
        "starts_alone": "bool",
    },
    "ca backup --check one.backup": {
        **dict.fromkeys(("fleet", "backup", "made_at", "sha256", "shares", "signed_by"), "str"),
        **dict.fromkeys(("size", "share_set", "audit_entries"), "int"),
    },
    "ca drill": {
        "backup": "str",
        "passed": "bool",
        "steps": [{"step": "str", "ok": "bool", "seconds": "float", "text": "str"}],
    },
    "ca list": [AUTHORITY],
    "ca show prod/device-1": AUTHORITY_DETAILS,
    "ca rollover prepare prod --rehearse": {
        **ROLLOVER,
        **dict.fromkeys(("fleet", "status_url"), "str"),
        **dict.fromkeys(("root", "root_pem", "beside_pem", "links_pem"), "str?"),
        "requests": [dict.fromkeys(("name", "purpose", "common_name", "csr"), "str")],
        "standing_by": ["str"],
    },
    "ca rollover list": [ROLLOVER],
    "ca compromise prod/device-1 --rehearse": GIVEN_UP,
    "ca add --domain prod --standby": AUTHORITY_DETAILS,
    "ca crl prod": {
        **dict.fromkeys(("issuer", "this_update", "next_update"), "str"),
        **dict.fromkeys(("number", "revoked"), "int"),
    },
    "domain list": [DOMAIN],
    "domain show prod": {**DOMAIN, "trust": "str"},
    "claim create --domain prod --device one": [
        dict.fromkeys(("domain", "device_id", "code_id", "code", "expires"), "str")
    ],
    "claim create --domain prod --batch b1 --count 2 --certificate": [
        {
            **dict.fromkeys(("domain", "batch", "created_at", "serial", "certificate", "key"), "str"),
            **dict.fromkeys(("uses", "uses_allowed", "pending"), "int"),
            **dict.fromkeys(("expires", "closed_at"), "str?"),
        }
    ],
    "claim list": [CODE],
    "claim list --batches": [
        {
            **dict.fromkeys(("domain", "batch", "created_at"), "str"),
            **dict.fromkeys(("uses", "pending"), "int"),
            "uses_allowed": "int?",
            **dict.fromkeys(("expires", "closed_at"), "str?"),
        }
    ],
    "claim revoke --domain prod --batch b1": {
        "domain": "str",
        "batch": "str",
        "certificates": ["str"],
        "sessions": [CUT_OFF],
    },
    "station add line1 --domain prod --batch b2": {
        **STATION,
        **dict.fromkeys(("serial", "certificate", "key"), "str"),
    },
    "station list": [STATION],
    "station show line1": STATION,
    "station change line1 --batch b2 --quota b2=5 --serials b2=a-1..a-9 --rate 9": STATION,
    "station lease grant line1 --batch b2 --units 3 --csr home/stations/line1-ca.csr": {
        **LEASE,
        "file": "str",
    },
    "station lease take line1 line1.lease": LEASE_TAKEN,
    "station sync line1": SYNCED,
    "station renew line1 --request line1.csr": {"station": "str", "request": "str"},
    "station certify line1 --csr line1.csr": dict.fromkeys(("station", "serial", "certificate"), "str"),
    "station renew line1 --certificate line1.crt": dict.fromkeys(("station", "serial", "not_after"), "str"),
    "station renew line1": dict.fromkeys(("station", "serial", "not_after"), "str"),
    "station lease list": [LEASE],
    "station operator add line1 ada --badge-file badge": LINE_OPERATOR,
    "station operator list line1": [LINE_OPERATOR],
    "station operator remove line1 ada": {"station": "str", "operator": "str"},
    "station new-journal line1 --reason lost": STATION,
    "station revoke line1": {"station": "str", "revoked": ["str"]},
    "operator renew admin": dict.fromkeys(("operator", "serial", "not_after", "certificate", "key"), "str"),
    "operator totp list": [],
    "operator recover admin --out back": {
        **dict.fromkeys(("operator", "state", "spoken_code", "needs"), "str"),
        **dict.fromkeys(("serial", "certificate"), "str?"),
    },
    "operator pleas": [
        {
            **dict.fromkeys(("readmission", "operator", "state", "address", "asked_at", "expires_at"), "str"),
            **dict.fromkeys(("proved", "decided_at", "serial"), "str?"),
            "voices": [],
        }
    ],
    "proposal list": [],
    "cert renew server service": dict.fromkeys(("serial", "issuer", "not_after"), "str"),
    f"adoption open old --domain prod {ADOPTED} --list fleet.csv --certificates thing.pem": {
        **ADOPTION,
        **dict.fromkeys(("admitted", "known"), "int"),
    },
    "adoption add old --list fleet.csv": {
        **dict.fromkeys(("listed", "admitted", "waiting", "known", "here"), "int"),
    },
    "adoption list": [ADOPTION],
    "adoption left old": [LEFT],
    "adoption crl old old.crl.pem": ENDED,
    "adoption close old": ENDED,
    "template add line3 line3.toml": TEMPLATE,
    "template list": [TEMPLATE],
    "template show line3": {**TEMPLATE, "text": "str"},
    "template remove line3": {"template": "str"},
    "audit tail": [ENTRY],
    "audit search --domain prod": [ENTRY],
    "audit verify": {
        "whole": "bool",
        "size": "int",
        "heads": "int",
        "archived": "int",
        "root": "str",
        "signed_at": "str",
        "findings": [{"first": "int", "last": "int", "text": "str"}],
    },
    "audit archive --older 30d": [],
    "audit verify --records": {
        "whole": "bool",
        **dict.fromkeys(("size", "heads", "archived"), "int"),
        **dict.fromkeys(("root", "signed_at"), "str"),
        "findings": [{"first": "int", "last": "int", "text": "str"}],
        "records": {"devices": "int", "differences": [{"name": "str", "what": ["str"]}]},
    },
    "audit archives": [],
    "audit witnesses": [],
    "audit verify --trail trail.jsonl --head head.json --key home/audit/public.pem": {"proven": "str"},
    "profile list --domain prod": [PROFILE],
    "profile show device --domain prod": PROFILE,
    "profile check home/fleet.toml": {"file": "str", "fleet": "str", "domains": "int", "profiles": "int"},
    "profile assign device --domain prod --device alpha": ASSIGNMENT,
    "profile clear --domain prod --device alpha": ASSIGNMENT,
    "policy test": {
        **dict.fromkeys(("requests", "undecided", "different"), "int"),
        "since": "str",
        "items": [],
    },
    "policy test --config tried.toml": {
        **dict.fromkeys(("requests", "undecided", "different"), "int"),
        "since": "str",
        "items": [
            {
                **dict.fromkeys(("domain", "device_id", "step", "why", "last_at"), "str"),
                "before": RULING,
                "after": RULING,
                "times": "int",
            }
        ],
    },
    "policy apply": {"changed": "bool", "profiles": "int"},
    "policy show": {
        **ACCESS_CHECKED,
        **dict.fromkeys(("number",), "int"),
        "text": "str",
        **dict.fromkeys(("applied_at", "actor"), "str?"),
        "differs": "bool",
    },
    "policy check access.toml": ACCESS_CHECKED,
    "policy test --access access.toml": {
        **dict.fromkeys(("decisions", "different"), "int"),
        "since": "str?",
        "items": [],
    },
    "policy apply --access access.toml": ACCESS_APPLIED,
    "policy users": [
        {
            **dict.fromkeys(("name", "serial", "issuer", "fingerprint", "not_after"), "str"),
            "users": ["str"],
            "roles": ["str"],
        }
    ],
    "policy history": [{"number": "int", **dict.fromkeys(("digest", "applied_at", "actor", "text"), "str")}],
    "policy rollback 0": ACCESS_APPLIED,
    "policy explain --domain prod alpha publish x": {
        **dict.fromkeys(("domain", "device_id", "verb", "topic"), "str"),
        **dict.fromkeys(("admitted", "allowed", "protocols"), "bool"),
        **dict.fromkeys(("rule", "pattern"), "str?"),
        "line": "int?",
        "facts": "object",
        "lacking": [],
        "roles": [],
        "users": [],
    },
    "service add dashboard --read devices/# --out keys": {
        **SERVICE,
        **dict.fromkeys(("certificate", "key"), "str"),
    },
    "service list": [SERVICE],
    "service renew dashboard --out keys": dict.fromkeys(
        ("service", "serial", "not_after", "certificate", "key"), "str"
    ),
    "service revoke dashboard": {"service": "str", "revoked": ["str"]},
    "key block {leaf} --reason seen": {"blocked": "int", "known": "int", "in_force": ["str"]},
    "key list": [dict.fromkeys(("key_hash", "reason", "blocked_at", "blocked_by"), "str")],
    "broker show": BROKER,
    "broker apply": BROKER,
    "broker sessions": [
        dict.fromkeys(("broker", "name", "client_id", "issuer", "serial", "address", "connected_at"), "str")
    ],
    "broker kick prod:alpha": [CUT_OFF],
    "cert revoke --device prod:alpha --reason keyCompromise": {
        "revoked": ["str"],
        "names": ["str"],
        "sessions": [CUT_OFF],
        "verified": "bool",
        "problem": "str?",
    },
}
ENDS_WITH = {
    "doctor": 7,
    "forecast --weeks 2 --ca-down 400d": 7,
    "ca compromise prod/device-1 --rehearse": 7,
    "policy test --config tried.toml": 7,
}
NAMES = {"str": str, "int": int, "bool": bool, "float": (int, float), "object": dict}


def faults(value: object, shape: Shape, path: str = "$") -> Iterator[str]:
    """Yield where a value is not of the shape."""
    match shape:
        case dict():
            if not isinstance(value, dict) or set(value) != set(shape):
                seen = sorted(value) if isinstance(value, dict) else value
                yield f"{path}: {seen!r} is not {sorted(shape)}"
                return
            for name, below in shape.items():
                yield from faults(value[name], below, f"{path}.{name}")
        case list():
            if not isinstance(value, list):
                yield f"{path}: {value!r} is no list"
                return
            for place, item in enumerate(value):
                yield from faults(item, shape[0], f"{path}[{place}]")
        case str():
            fits = isinstance(value, NAMES[shape.removesuffix("?")])
            if isinstance(value, bool) != (shape == "bool") or not (
                fits or (value is None and shape.endswith("?"))
            ):
                yield f"{path}: {value!r} is not {shape}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, made_home: Path) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("json")
    copy_home(made_home, folder)
    tried = (folder / "home/fleet.toml").read_text().replace("[domains.prod]", TRIED)
    (folder / "tried.toml").write_text(tried)
    (folder / "line3.toml").write_text('domain = "prod"')
    (folder / "access.toml").write_text('[[allow]]\nname = "a"\npublish = ["x/#"]\n')
    write_other_fleet(folder)
    with (folder / "home/fleet.toml").open("a") as config:
        config.write(TOLD)
    with served(folder):
        enroll(folder, "alpha")
        run(folder, "station lease request line1")
        (folder / "head.json").write_text(run(folder, "audit head").stdout)
        (folder / "trail.jsonl").write_text(run(folder, "audit export").stdout)
        yield folder


def write_other_fleet(folder: Path) -> None:
    other = OtherFleet()
    thing = other.device()
    (folder / "old.pem").write_text(other.authorities)
    (folder / "old.crl.pem").write_text(other.crls)
    (folder / "thing.pem").write_bytes(pem_of(thing.certificate))
    (folder / "badge").write_text("1234\n")
    (folder / "fleet.csv").write_text(f"device_id,fingerprint\nthing-1,{thing.fingerprint}\n")


def run(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    leaf = folder / "alpha/current/cert.pem"
    serial = leaf.resolve().parent.name.removeprefix("gen-")
    words = command.format(serial=serial, leaf=leaf).split()
    return subprocess.run(
        ["fleet", *words],
        cwd=folder,
        env=environment(folder),
        input="device_id\ngamma\n",
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", list(COMMANDS))
def test_the_json_of_a_command_has_its_members(command: str, folder: Path) -> None:
    done = run(folder, f"{command} --json")
    assert done.returncode == ENDS_WITH.get(command, 0), done.stderr
    assert list(faults(json.loads(done.stdout), COMMANDS[command])) == []
    assert done.stderr == ""


@pytest.mark.parametrize("command", [name for name, shape in COMMANDS.items() if isinstance(shape, list)])
def test_a_list_comes_as_json_lines_as_well(command: str, folder: Path) -> None:
    if "create" in command:
        return  # it makes something, and not twice
    lines = run(folder, f"{command} --jsonl").stdout.splitlines()
    assert [fault for line in lines for fault in faults([json.loads(line)], COMMANDS[command])] == []


def test_a_shape_that_is_not_so_is_seen() -> None:
    assert list(faults({"a": 1}, {"a": "int"})) == []
    assert list(faults({"a": True}, {"a": "int"}))
    assert list(faults({"a": 1, "b": 2}, {"a": "int"}))
    assert list(faults([1, "x"], ["int"]))
    assert list(faults(None, "str"))
    assert list(faults(None, "str?")) == []

"""What the members of paths, queries and bodies mean: a name means the same wherever it stands.

JSON Schema (2020-12) as OpenAPI 3.1 has it. It describes; what a request must be is checked by who reads it.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from fleet.core.causes import Cause
from fleet.core.delivery import DeliveryState
from fleet.core.goodkey import KeyType
from fleet.core.matters import Matter, Severity
from fleet.core.proposal import ProposalState
from fleet.core.rollout import DeviceState, RolloutState
from fleet.errors import ExitCode
from fleet.grants import Action
from fleet.model import (
    BrokerEventKind,
    CertificateState,
    ClientKind,
    Purpose,
    RevocationReason,
    Role,
    Standing,
)
from fleet.ra.people.roster import ImportFormat
from fleet.ra.succession.compromise import Loss
from fleet.store.station_report import By
from fleet.web.api.routes import Json

Schema: TypeAlias = Mapping[str, Json]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
TIME: Schema = {"type": "string", "format": "date-time", "description": "RFC 3339, in UTC, with Z."}
PEM: Schema = {"type": "string", "description": "PEM (RFC 7468)."}
DOMAIN: Schema = {"type": "string", "pattern": "^[a-z0-9-]{1,32}$", "description": "A security domain."}
DEVICE_ID: Schema = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_:-]{0,63}$"}
SERIAL: Schema = {
    "type": "string",
    "pattern": "^[0-9a-f]{32}$",
    "description": "A certificate's serial number.",
}
NAMED: Schema = {"type": "object", "additionalProperties": TEXT}
SHA256: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "SHA-256, hex."}


def word(of: Sequence[str]) -> Schema:
    """Return one of the words of an enumeration."""
    return {"type": "string", "enum": [str(one) for one in of]}


def maybe(schema: Schema) -> Schema:
    """Return a schema that null is good for, too."""
    return {"anyOf": [schema, {"type": "null"}]}


def ref(shape: str) -> Schema:
    """Return a reference to a shape by its name."""
    return {"$ref": f"#/components/schemas/{shape}"}


def list_of(schema: Schema) -> Schema:
    """Return a list of such."""
    return {"type": "array", "items": schema}


def record(*groups: Mapping[str, Schema]) -> Schema:
    """Return an object that has all the members of some groups; more may be added in later versions."""
    members = {name: schema for group in groups for name, schema in group.items()}
    return {"type": "object", "properties": members, "required": list(members)}


def each(names: str, schema: Schema) -> Mapping[str, Schema]:
    """Return members of one kind; the names are set apart by spaces."""
    return dict.fromkeys(names.split(), schema)


EXIT: Schema = {
    "type": "integer",
    "enum": [code.value for code in ExitCode],
    "description": "What a command of ours ends with because of it.",
}

TERMS: Mapping[str, Schema] = {
    "acked": {**word(("yes", "no")), "description": "Whether somebody has said that he saw it."},
    "action": {**TEXT, "description": "An audit entry's `<noun>.<verb>`."},
    "actor": {
        **TEXT,
        "description": "`operator:<name>`, `device:<domain>:<id>`, `station:<name>`, `server`",
    },
    "about": {**TEXT, "maxLength": 200, "description": "Who an owner is."},
    "witness": {**TEXT, "description": "A witness of the audit trail, by its name in fleet.toml."},
    "after": {**TEXT, "description": "The `next` of the page before."},
    "anchor": {**PEM, "description": "A root that is to be believed."},
    "anyway": {**FLAG, "description": "Go on although devices have not acknowledged, or have failed."},
    "at": TIME,
    "attributes": {**NAMED, "description": "By name; an empty value takes one back."},
    "backup": {"type": "string", "pattern": "^[0-9a-f]{16}$", "description": "A backup's name."},
    "badge": {
        **TEXT,
        "minLength": 4,
        "maxLength": 64,
        "description": "A line operator's badge or PIN; it is hashed, and not kept.",
    },
    "batch": {**TEXT, "description": "A batch of devices."},
    "batches": {**list_of(TEXT), "description": "The batches that a station may enroll."},
    "by": word(tuple(By)),
    "ca_key": {**word(tuple(KeyType)), "description": "What its authorities are made with."},
    "certificate": PEM,
    "certificates": list_of(record({"name": TEXT, "certificate": PEM})),
    "cause": {**word(tuple(Cause)), "description": "Why a connection was refused."},
    "chain": {**PEM, "description": "The CA's own certificate first, then those above it."},
    "code_id": {"type": "string", "pattern": "^[0-9a-f]{32}$", "description": "Which code, not the code."},
    "contacts": {**list_of(TEXT), "maxItems": 16, "description": "Mail addresses."},
    "count": {"type": "integer", "minimum": 1, "maximum": 1000},
    "crl": {**TEXT, "description": "A revocation list (RFC 5280 5), DER in base64."},
    "brings_key": {**FLAG, "description": "Rehearse as if the successor's key, put away, were back."},
    "csr": {**PEM, "description": "PKCS#10 (RFC 2986); its names do not count."},
    "cut_off": {**FLAG, "description": "Let its leaves connect no more; devices come back at recovery."},
    "days": {"type": "integer", "minimum": 1, "maximum": 3650},
    "delivery": {**word(tuple(DeliveryState)), "description": "With a delivery that stands so."},
    "device_id": DEVICE_ID,
    "devices": list_of(DEVICE_ID),
    "domain": DOMAIN,
    "earlier_root": {**SHA256, "description": "The root under the head that somebody kept."},
    "earlier_size": {
        **COUNT,
        "minimum": 1,
        "description": "How many entries the head that somebody kept is over.",
    },
    "ends_before": TIME,
    "event": {**word(tuple(BrokerEventKind)), "description": "What happened to a connection."},
    "entry": {**COUNT, "description": "An audit entry's number, from 0."},
    "failed": {**TEXT, "description": "At which step; left out where all went well."},
    "format": word(tuple(ImportFormat)),
    "groups": {**list_of(TEXT), "description": "That devices are put into."},
    "hardware": {**TEXT, "maxLength": 200, "description": "A hardware id, for people to compare."},
    "html": {**FLAG, "description": "As a page to print, rather than as text."},
    "key_hash": {**SHA256, "description": "SHA-256 of the SubjectPublicKeyInfo: no other key is admitted."},
    "key_hashes": {**list_of(SHA256), "maxItems": 64, "description": "Of the SubjectPublicKeyInfos."},
    "kind": word(tuple(ClientKind)),
    "lease": {**SERIAL, "description": "A lease by its name."},
    "ca_down_days": {
        "type": "integer",
        "minimum": 0,
        "maximum": 3650,
        "default": 0,
        "description": "For how many days no CA signs, from now; 0: no such thing is asked.",
    },
    "weeks": {
        "type": "integer",
        "minimum": 0,
        "maximum": 520,
        "default": 0,
        "description": "How many weeks are told one by one, from this one on.",
    },
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
    "lineage": {
        **SERIAL,
        "description": "A certificate, all that it came from and all that followed.",
    },
    "loss": word(tuple(Loss)),
    "matter": {**word(tuple(Matter)), "description": "What it is about, as `events` of a rule names it."},
    "model": {**TEXT, "maxLength": 64, "description": "What kind of device it is; empty: nobody knows."},
    "name": {**TEXT, "maxLength": 100},
    "names": {**list_of(TEXT), "maxItems": 64, "description": "Devices, each as `domain:id`."},
    "network": {**TEXT, "description": "An address, or a network such as 10.1.0.0/16."},
    "note": {**TEXT, "maxLength": 200},
    "notification": {**COUNT, "description": "A notification, by its number."},
    "number": {**COUNT, "description": "An access policy, by its number in the history."},
    "reads": {**list_of(TEXT), "description": "Topic filters that a backend may subscribe to."},
    "topic": {**TEXT, "maxLength": 256, "description": "A topic, or a filter to subscribe to."},
    "verb": {**word(tuple(Action)), "description": "What is done with a topic."},
    "writes": {**list_of(TEXT), "description": "Topic filters: what they match a backend may publish to."},
    "open": {**word(("yes", "no")), "description": "Whether only what has not ended is meant."},
    "operator": {**TEXT, "description": "Somebody who works at a station."},
    "owner": {**TEXT, "maxLength": 64, "description": "Whom devices are given to; empty: nobody."},
    "place": {
        **TEXT,
        "description": "Who saw it: mosquitto, embedded, https, log:NAME, ship:WHO/NAME.",
    },
    "prefix": {**TEXT, "description": "What the device ids begin with."},
    "profile": {**TEXT, "maxLength": 32, "description": "A profile of the domain in fleet.toml."},
    "proposal": {**TEXT, "description": "An act that needs a second operator, by its id."},
    "proposal_state": word(tuple(ProposalState)),
    "purpose": word(tuple(Purpose)),
    "quotas": {**list_of(TEXT), "description": "Units of a batch at most: `spring=5000`."},
    "query": {**TEXT, "maxLength": 4096, "description": "Devices, such as `tag=outdoor and expires<30d`."},
    "purposes": list_of(word(("server", "service", "signer"))),
    "reason": {**TEXT, "maxLength": 200, "description": "Why, for the audit trail."},
    "readmission": {**TEXT, "description": "The plea of an operator who asks to be let in again, by its id."},
    "realm": {**TEXT, "description": "A domain; `fleet` is the realm by whose root servers are trusted."},
    "plan": {**TEXT, "maxLength": 32768, "description": "The plan of a rollout, TOML."},
    "rehearse": {**FLAG, "description": "Say what would happen, and change nothing."},
    "replace": {**FLAG, "description": "Revoke what the devices have when the code is used."},
    "role": word(tuple(Role)),
    "rollout_device_state": {**word(tuple(DeviceState)), "description": "Where a device stands in it."},
    "rollout_state": {**word(tuple(RolloutState)), "description": "Where a rollout stands."},
    "root": {
        **record(
            {"certificate": PEM, "crl": TEXT, "link": PEM, "link_back": PEM, "bundles": {"type": "array"}}
        ),
        "description": "The root that follows, and what both have signed for it.",
    },
    "rule": {**TEXT, "description": "A `[[notice.rule]]` of fleet.toml, by its name."},
    "room": {**COUNT, "minimum": 1, "description": "How many leaves at most at a time."},
    "rate": {**COUNT, "minimum": 1, "description": "Units a minute at most."},
    "serial": SERIAL,
    "severity": {**word(tuple(one.word for one in Severity)), "description": "That, or graver."},
    "serials": {**list_of(TEXT), "description": "Device ids of a batch: `spring=spring-0001..spring-5000`."},
    "tags": {**list_of(TEXT), "description": "That are stuck on devices."},
    "to_domain": {**DOMAIN, "description": "The domain that a device goes to."},
    "totp": {**TEXT, "description": "A code of one's second factor (RFC 6238), six digits."},
    "unit": {**TEXT, "description": "A unit in quarantine, by its hardware id or device id."},
    "shifts": {**list_of(TEXT), "description": "When it works: `mon-fri 06:00-14:00 Europe/Berlin`."},
    "since": TIME,
    "short_code": {"type": "string", "pattern": "^[0-9A-Za-z]{4}-?[0-9A-Za-z]{4}$"},
    "signer": {**TEXT, "description": "Who signed the list: his certificate, DER in base64url."},
    "shares": {**TEXT, "description": "How many shares open it, of how many: `2of3`."},
    "station": {**TEXT, "description": "A station's name."},
    "spoken_code": {
        **TEXT,
        "description": "What somebody without a certificate reads out.",
    },
    "standing": word(tuple(Standing)),
    "state": word(tuple(CertificateState)),
    "successor": {**TEXT, "description": "The CA that takes over; left out: one that signs or stands by."},
    "to": {**TEXT, "maxLength": 64, "description": "A rule or a channel; left out: everybody."},
    "token": {**TEXT, "description": "A PKCS#11 token by its URI (RFC 7512), without a PIN."},
    "without_groups": {**list_of(TEXT), "description": "That devices are taken out of."},
    "without_tags": {**list_of(TEXT), "description": "That are taken off devices."},
    "units": {**COUNT, "minimum": 1, "description": "How many units at most."},
    "until": TIME,
    "uses": {"type": "integer", "minimum": 1, "maximum": 1_000_000},
    "within_hours": {"type": "integer", "minimum": 0, "maximum": 24 * 366},
    "version": {**COUNT, "minimum": 1, "description": "The one that this was decided on."},
    "wave": {**COUNT, "minimum": 1, "description": "A wave of a rollout; the pilot is 1."},
}
"""Every member that a request may have."""

REVOCATION_REASON: Schema = {**word(tuple(RevocationReason)), "description": "RFC 5280 5.3.1."}

"""What answers hold: one schema for each shape that the table of routes names.

Members may be added in later versions: a client passes over what it does not know.
"""

from collections.abc import Mapping

from fleet.core.authority import AuthorityState, KeyKind
from fleet.core.rollover import RolloverEvent, RolloverKind, RolloverState
from fleet.core.station_recall import Fate
from fleet.model import Purpose, Role
from fleet.ra.status import verdict_faults
from fleet.web.api.access_shapes import OF_ACCESS
from fleet.web.api.audit_shapes import OF_THE_AUDIT
from fleet.web.api.connection_shapes import OF_CONNECTIONS
from fleet.web.api.health_shapes import OF_HEALTH
from fleet.web.api.inventory_shapes import MARKS, OF_INVENTORY
from fleet.web.api.notification_shapes import OF_NOTIFICATIONS
from fleet.web.api.people_shapes import OF_PEOPLE
from fleet.web.api.policy_shapes import OF_POLICY
from fleet.web.api.rollout_shapes import OF_ROLLOUTS
from fleet.web.api.terms import (
    COUNT,
    DEVICE_ID,
    DOMAIN,
    EXIT,
    FLAG,
    NUMBER,
    PEM,
    SERIAL,
    SHA256,
    TEXT,
    TIME,
    Schema,
    each,
    list_of,
    maybe,
    record,
    ref,
    word,
)

_BROKER = record(each("driver", TEXT), each("sessions", COUNT), each("list_age_seconds", maybe(NUMBER)))
_SUMMARY = {
    **each("domain", DOMAIN),
    **each("device_id", DEVICE_ID),
    **each("kind standing alarm", TEXT),
    **each("batch", maybe(TEXT)),
    **each("serial", maybe(SERIAL)),
    **each("registered_at", TIME),
    **each("not_after last_seen_at", maybe(TIME)),
    **MARKS,
}
_CERTIFICATE = {
    **each("serial", {**TEXT, "description": "Hex; of ours always 32 digits."}),
    **each("purpose name domain device_id state issuer", TEXT),
    **each("batch parent profile", maybe(TEXT)),
    **each("attempt", COUNT),
    **each("key_hash", SHA256),
    **each("fingerprint", maybe(SHA256)),
    **each("created_at changed_at", TIME),
    **each("not_before not_after", maybe(TIME)),
}
_AUTHORITY = {
    **each("name realm issuer", TEXT),
    **each("domain", maybe(TEXT)),
    **each("kind", word(("root", "issuing"))),
    **each("purpose", maybe(word(tuple(Purpose)))),
    **each("state", word(tuple(AuthorityState))),
    **each("key", word(tuple(KeyKind))),
    **each("anchor", maybe(SHA256)),
    **each("room", maybe(COUNT)),
    **each("leaves", COUNT),
    **each("changed_at", TIME),
    **each("not_after crl_until", maybe(TIME)),
}
_OF_AUTHORITY = {
    **each("added_at", TIME),
    **each("chain", maybe(PEM)),
    **each("subject signed_by key_type serial signature", maybe(TEXT)),
    **each("path_length", maybe(COUNT)),
    **each("lists_at status_at uses constraints", list_of(TEXT)),
    **each("not_before", maybe(TIME)),
    **each("fingerprint", maybe(SHA256)),
}
_ROLLOVER = {
    **each("number", COUNT),
    **each("realm", TEXT),
    **each("kind", word(tuple(RolloverKind))),
    **each("state", word(tuple(RolloverState))),
    **each("gives_up brings", list_of(TEXT)),
    **each("version", maybe(COUNT)),
    **each("next", maybe(word(tuple(RolloverEvent)))),
    **each("started_at changed_at", TIME),
}
_ROLLED = {
    **each("devices acknowledged plain needed_by", COUNT),
    **each("silent needing", list_of(TEXT)),
}
_DOMAIN = {
    **each("domain", DOMAIN),
    **each("devices", COUNT),
    **each("anchors", list_of(SHA256)),
    **each("issuing", list_of(TEXT)),
}
_GRANT = {
    **each("domain", DOMAIN),
    **each("device_id", DEVICE_ID),
    **each("code_id kind source", TEXT),
    **each("bound", FLAG),
    **each("created_at", TIME),
    **each("expires closed_at", maybe(TIME)),
}
_BATCH = {
    **each("domain", DOMAIN),
    **each("batch", TEXT),
    **each("uses pending", COUNT),
    **each("uses_allowed", maybe(COUNT)),
    **each("created_at", TIME),
    **each("expires closed_at", maybe(TIME)),
}
_TEMPLATE = {
    **each("template", TEXT),
    **each("domain", DOMAIN),
    **each("batches parameters required", list_of(TEXT)),
    **each("device_id", maybe(TEXT)),
    **each("configuration", {"type": "object", "additionalProperties": TEXT}),
    **each("added_at", TIME),
    **each("added_by", TEXT),
}
_STATION = {
    **each("station", TEXT),
    **each("domain", DOMAIN),
    **each("batches quotas serials shifts", list_of(TEXT)),
    **each("rate", maybe(COUNT)),
    **each("added_at", TIME),
    **each("synced_at closed_at", maybe(TIME)),
}
_LEASE = {
    **each("lease", SERIAL),
    **each("station batch", TEXT),
    **each("domain", DOMAIN),
    **each("first units used", COUNT),
    **each("issued_at not_after", TIME),
    **each("closed_at", maybe(TIME)),
}
_OPERATOR = {
    **each("operator", TEXT),
    **each("role", word(tuple(Role))),
    **each("added_at", TIME),
    **each("removed_at", maybe(TIME)),
}
_CREDENTIAL = {"serial": SERIAL, "certificate": PEM, "key": {**PEM, "description": "Told once, here."}}

_OF_DEVICES: Mapping[str, Schema] = {
    "Device": record(_SUMMARY),
    "DeviceFile": record(
        _SUMMARY,
        each("hardware note assurance", TEXT),
        each("profile", maybe(TEXT)),
        each("code_conflict", FLAG),
        each("retired_at", maybe(TIME)),
        {"certificates": list_of(ref("Certificate")), "codes": list_of(ref("Grant"))},
        {"waiting": list_of(ref("Waiting")), "proofs": list_of(ref("Proof"))},
        {"listed": list_of(ref("Listed")), "attributes": {"type": "object"}},
    ),
    "Waiting": record(
        each("domain", DOMAIN),
        each("device_id", DEVICE_ID),
        each("key_hash", SHA256),
        each("short_code", {**TEXT, "description": "Shown on the device, too."}),
        each("address proof assurance evidence reason", TEXT),
        each("asked_at ends_at", TIME),
        each("age_seconds", COUNT),
        each("rejected_by", maybe(TEXT)),
    ),
    "Proof": record(
        each("key_hash", SHA256), each("proof assurance evidence", TEXT), each("proved_at", TIME)
    ),
    "Listed": record(each("thing value source", TEXT), each("listed_at", TIME)),
    "Imported": record(each("listed registered things", COUNT)),
    "Outcome": record(
        each("domain", DOMAIN),
        each("device_id", DEVICE_ID),
        each("action", TEXT),
        {"sessions": list_of(ref("CutOff"))},
    ),
    "Story": record(
        each("domain", DOMAIN),
        each("device_id", DEVICE_ID),
        each("standing advice", maybe(TEXT)),
        each("verdict", TEXT),
        {"story": list_of(ref("Decision")), "connections": list_of(ref("Contact"))},
        {"waiting": list_of(ref("Waiting"))},
    ),
}
_OF_CERTIFICATES: Mapping[str, Schema] = {
    "Certificate": record(_CERTIFICATE),
    "CertificateFile": record(_CERTIFICATE, each("revoked_at", maybe(TIME)), each("reason", maybe(TEXT))),
    "Verdict": record(
        each("good", FLAG),
        each("standing", word(tuple(verdict_faults.Standing))),
        each("why", TEXT),
        each("at", TIME),
        each("serial", TEXT),
        {"certificate": maybe(ref("Certificate"))},
    ),
    "CutOff": record(each("broker name serial", TEXT), each("cut_off_ms", NUMBER)),
    "Receipt": record(
        each("revoked names", list_of(TEXT)),
        {"sessions": list_of(ref("CutOff"))},
        each("verified", FLAG),
        each("problem", maybe(TEXT)),
    ),
}
_OF_CLAIMS: Mapping[str, Schema] = {
    "Grant": record(_GRANT),
    "NewCode": record(
        each("domain", DOMAIN),
        each("device_id", DEVICE_ID),
        each("code_id", TEXT),
        each("code", {**TEXT, "description": "Told once, here."}),
        each("expires", TIME),
    ),
    "Batch": record(_BATCH),
    "NewBatch": record(_BATCH, _CREDENTIAL),
    "ClosedBatch": record(
        each("domain", DOMAIN),
        each("batch", TEXT),
        each("certificates", list_of(TEXT)),
        {"sessions": list_of(ref("CutOff"))},
    ),
}
_OF_PEOPLE: Mapping[str, Schema] = {
    "Self": record(
        each("operator fleet", TEXT), each("role", word(tuple(Role))), each("domains", list_of(DOMAIN))
    ),
    "Operator": record(_OPERATOR),
    "NewOperator": record(_OPERATOR, _CREDENTIAL),
    "RemovedOperator": record(each("operator", TEXT), each("revoked", list_of(SERIAL))),
    "Adoption": record(
        each("adoption", TEXT),
        each("domain", DOMAIN),
        each("listed waiting here moved", COUNT),
        each("crls_until opened_at", TIME),
        each("closed_at", maybe(TIME)),
    ),
    "AdoptedLeaf": record(
        each("adoption issuer serial fingerprint", TEXT),
        each("domain", DOMAIN),
        each("device_id", DEVICE_ID),
        each("admitted_at", maybe(TIME)),
    ),
    "AdoptionListed": record(each("admitted waiting known", COUNT)),
    "AdoptionEnded": record(each("ended", list_of(TEXT)), {"sessions": list_of(ref("CutOff"))}),
    "Renewed": record({"serial": SERIAL, "certificate": PEM}, each("not_after", maybe(TIME))),
    "Superseded": record(each("superseded", list_of(SERIAL))),
    "ServerCertificate": record(each("serial issuer", TEXT), each("not_after", TIME)),
    "Station": record(_STATION),
    "Template": record(_TEMPLATE),
    "TemplateFile": record(_TEMPLATE, each("text", TEXT)),
    "RemovedTemplate": record(each("template", TEXT)),
    "NewStation": record(_STATION, {"serial": SERIAL, "certificate": PEM}),
    "CertifiedStation": record(each("station", TEXT), {"serial": SERIAL, "certificate": PEM}),
    "RevokedStation": record(each("station", TEXT), each("revoked", list_of(SERIAL))),
    "ReleasedUnit": record(each("station hardware device", TEXT), each("fate", word(tuple(Fate)))),
    "LineOperator": record(
        each("station operator", TEXT), each("added_at", TIME), each("removed_at", maybe(TIME))
    ),
    "Lease": record(_LEASE),
    "GrantedLease": record(_LEASE, {"signed": {**TEXT, "description": "The lease's file, for the station."}}),
    "StationYield": record(
        each("name", TEXT),
        each("visits units issued passed first_pass failed quarantined online", COUNT),
    ),
    "StationFinding": record(each("station kind about detail hint", TEXT)),
    "RemovedLineOperator": record(each("station operator", TEXT)),
}
_OF_HEALTH: Mapping[str, Schema] = {
    "Authority": record(_AUTHORITY),
    "AuthorityDetails": record(_AUTHORITY, _OF_AUTHORITY),
    "AuthorityRequest": record(
        _AUTHORITY,
        _OF_AUTHORITY,
        each("csr", PEM),
        each("common_name status_url", TEXT),
    ),
    "Rollover": record(_ROLLOVER),
    "WorkOrder": record(
        _ROLLOVER,
        each("fleet status_url", TEXT),
        each("root root_pem beside_pem links_pem", maybe(TEXT)),
        each("requests", list_of(record(each("name purpose common_name", TEXT), each("csr", PEM)))),
        each("standing_by", list_of(TEXT)),
    ),
    "RolloverStatus": record(
        _ROLLOVER,
        _ROLLED,
        each("refused", list_of(record(each("device problem", TEXT)))),
        each("notices_left renewed_early", COUNT),
    ),
    "RolloverStep": record(
        _ROLLOVER,
        _ROLLED,
        each("changes", list_of(record(each("name before after", TEXT)))),
        each("told", COUNT),
        each("refusal", maybe(TEXT)),
    ),
    "RetiredCa": record(
        each("name", TEXT), each("before after", word(tuple(AuthorityState))), each("needed_by", COUNT)
    ),
    "GivenUp": record(
        each("name root", TEXT),
        each("state", word(tuple(AuthorityState))),
        each("successor revoked", maybe(TEXT)),
        each("root_knows", FLAG),
        each("hastened due needed_by", COUNT),
        each("needing problems", list_of(TEXT)),
    ),
    "TrustBundle": record(
        each("v version", COUNT),
        each("type realm signature", TEXT),
        each("anchors", PEM),
        each("links", maybe(PEM)),
    ),
    "ListOrder": record(
        each("name issuer", TEXT),
        each("anchor", SHA256),
        each("number revoked", COUNT),
        each("entries", {**TEXT, "description": "revokedCertificates (RFC 5280 5.1.2.6), base64."}),
    ),
    "TakenList": record(
        each("issuer", TEXT), each("number revoked", COUNT), each("this_update next_update", TIME)
    ),
    "Domain": record(_DOMAIN),
    "DomainDetails": record(_DOMAIN, each("trust", PEM)),
    "Broker": record(
        each("driver host", TEXT),
        each("running", FLAG),
        each("mqtt_port mqtt_bootstrap_port sequence entries", COUNT),
        each("age_seconds", maybe(NUMBER)),
        each("sessions", maybe(COUNT)),
    ),
    "Session": record(each("broker name client_id issuer serial address", TEXT), each("connected_at", TIME)),
}
PROBLEM: Schema = {
    **record(each("title", TEXT), each("status", COUNT), each("detail", TEXT)),
    "description": "RFC 9457. `hint` says what to do now.",
    "properties": {**each("title detail code", TEXT), "status": COUNT, "hint": maybe(TEXT), "exit": EXIT},
}

SHAPES: Mapping[str, Schema] = {
    **_OF_DEVICES,
    **OF_INVENTORY,
    **_OF_CERTIFICATES,
    **_OF_CLAIMS,
    **_OF_PEOPLE,
    **OF_THE_AUDIT,
    **_OF_HEALTH,
    **OF_HEALTH,
    **OF_POLICY,
    **OF_ROLLOUTS,
    **OF_ACCESS,
    **OF_NOTIFICATIONS,
    **OF_PEOPLE,
    **OF_CONNECTIONS,
    "OpenApi": {"type": "object", "description": "OpenAPI 3.1."},
    "Problem": PROBLEM,
}
"""Every shape, by its name."""

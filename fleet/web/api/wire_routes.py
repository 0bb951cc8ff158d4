"""What devices and stations may ask over HTTPS, as the OpenAPI document tells it: the wire's own bodies.

It describes `fleet.web.devices` and decides nothing.
"""

from collections.abc import Mapping

from device_agent.wire.requests import CHALLENGED, MAX_ATTEMPT, ProofKind
from device_agent.wire.trust import MAX_VERSION
from fleet.core.log_lines import Product
from fleet.core.station_sync import MOST_ENTRIES
from fleet.model import KeyOrigin
from fleet.web.api.routes import Json, Members
from fleet.web.api.terms import (
    COUNT,
    DEVICE_ID,
    PEM,
    SERIAL,
    SHA256,
    TEXT,
    TIME,
    Schema,
    list_of,
    maybe,
    ref,
    word,
)
from fleet.web.gate import PROBLEM_TYPE

_ABOUT: Mapping[str, str] = {
    "attest": "A challenge, for a proof that has to be fresh: a manufacturer's certificate, or a TPM.",
    "enroll": "First certificate, with a claim certificate's or a station's connection, or a code.",
    "renew": "Next certificate; the connection's own is the one that it follows.",
    "confirm": "The certificate of this connection works: it becomes the current one.",
    "done": "The certificate of this connection is the only one that the device holds.",
    "status": "What the certificate of this connection is to the server.",
    "time": "Signed time, for the nonce that was asked with.",
}
_BASE64 = {**TEXT, "description": "Base64."}
_TPM: Schema = {
    "type": "object",
    "description": "Public areas as TPM2B_PUBLIC in base64; certificates in PEM.",
    "properties": {"ek_public": _BASE64, "ek_certificate": PEM, "ek_chain": PEM, "ak_public": _BASE64},
    "required": ["ek_public", "ak_public"],
}
_EVIDENCE: Mapping[str, Schema] = {
    "nonce": {**SHA256, "description": "Of the challenge that idevid and tpm answer."},
    "certificate": PEM,
    "chain": PEM,
    "signature": _BASE64,
    "tpm": _TPM,
    "secret": _BASE64,
    "key_public": _BASE64,
    "attest": _BASE64,
}
_TRUST_HELD: Schema = {
    "type": "object",
    "additionalProperties": {"type": "integer", "minimum": 1, "maximum": MAX_VERSION},
    "description": "Which trust bundle of each realm is held.",
}
_OWN: Mapping[str, Mapping[str, Schema]] = {
    "attest": {
        "device_id": DEVICE_ID,
        "key_hash": {**SHA256, "description": "Of the key that `enroll` will ask a certificate for."},
        "proof": word(tuple(sorted(CHALLENGED))),
        "tpm": _TPM,
    },
    "enroll": {
        "device_id": DEVICE_ID,
        "csr": {**PEM, "description": "PKCS#10 (RFC 2986)."},
        "anchors": list_of(SHA256),
        "proof": {
            "type": "object",
            "properties": {"kind": word(tuple(ProofKind)), "code": TEXT, **_EVIDENCE},
            "required": ["kind"],
        },
    },
    "renew": {
        "csr": PEM,
        "attempt": {"type": "integer", "minimum": 1, "maximum": MAX_ATTEMPT},
        "anchors": list_of(SHA256),
        "trust": _TRUST_HELD,
    },
    "done": {"anchors": list_of(SHA256), "trust": _TRUST_HELD},
    "time": {"nonce": {"type": "string", "pattern": "^[0-9a-f]{32,64}$"}},
}
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "attest": ("device_id", "key_hash", "proof"),
    "enroll": ("device_id", "csr", "proof"),
    "renew": ("csr",),
    "time": ("nonce",),
}
_IN_QUERY: Mapping[str, Mapping[str, Schema]] = {
    "enroll": {
        "replaces": {**SERIAL, "description": "By a station: the unit's certificate that this one replaces."},
        "batch": {**TEXT, "description": "By a station: which of its batches a new unit is of."},
        "key": {**word(tuple(KeyOrigin)), "description": "By a station: where the unit's key was made."},
    },
    "confirm": {"serial": {**SERIAL, "description": "By a station: the unit's certificate that works."}},
}
_RECOVERY: Schema = {
    "type": "object",
    "properties": {
        "request": {**TEXT, "description": "Base64 of the exact JSON of a renew, confirm or status."},
        "certificate": PEM,
        "nonce": TEXT,
        "signature": {**TEXT, "description": "Base64, by the certificate's key."},
    },
    "required": ["request", "certificate", "nonce", "signature"],
}

_JOURNAL: Schema = {
    "type": "object",
    "properties": {
        "v": {"const": 1},
        "now": TIME,
        "entries": {
            "type": "array",
            "maxItems": MOST_ENTRIES,
            "items": {"type": "object", "properties": {"e": TEXT, "s": _BASE64}, "required": ["e", "s"]},
        },
    },
    "required": ["v", "now", "entries"],
}

_CERTIFICATE_NAME: Schema = {
    **TEXT,
    "pattern": "^[A-Za-z0-9_-]{1,64}[.][A-Za-z0-9_-]{1,64}$",
    "description": "Key identifier of the issuer, a dot, the serial: base64url, as of RFC 9773 4.1.",
}

WIRE_SCHEMAS: Mapping[str, Schema] = {
    "RenewalInfo": {
        "type": "object",
        "properties": {
            "suggestedWindow": {
                "type": "object",
                "properties": {"start": TIME, "end": TIME},
                "required": ["start", "end"],
            }
        },
        "required": ["suggestedWindow"],
    },
    "WireReply": {
        "type": "object",
        "description": "An answer of the wire; `type` says which members it has.",
        "properties": {
            "v": {"const": 1},
            "id": TEXT,
            "type": word(("issued", "confirmed", "done-ack", "dead", "status", "time", "pending", "problem")),
            **dict.fromkeys(("serial", "key_hash", "state", "code", "detail", "nonce", "signature"), TEXT),
            **dict.fromkeys(("certificate", "chain", "trust"), PEM),
            "link": maybe(PEM),
            "renew_after": TIME,
            "now": TIME,
            "attempt_floor": COUNT,
            "retry": word(("now", "later", "never")),
            "retry_after": COUNT,
            "broker": {"type": "object"},
            "recovery": {"type": "object"},
            "bundles": {"type": "array", "description": "Trust bundles in force, each signed by a root."},
            **dict.fromkeys(("fleet", "domain"), TEXT),
            **dict.fromkeys(("credential", "secret"), _BASE64),
            "expires_in": COUNT,
        },
        "required": ["v", "id", "type"],
    },
    "JournalReceipt": {
        "type": "object",
        "properties": {
            "v": {"const": 1},
            "number": {**COUNT, "description": "Of the last entry that the server has."},
            "hash": SHA256,
            "now": TIME,
            "rules": {"type": "object"},
            "operators": {"type": "array"},
            "fault": {**TEXT, "description": "Why the entries that follow were not taken."},
        },
        "required": ["v", "number", "hash", "now", "rules", "operators", "fault"],
    },
    "ShippedLines": {
        "type": "object",
        "properties": {"batch": TEXT, "found": COUNT, "repeated": {"type": "boolean"}},
        "required": ["batch", "found", "repeated"],
    },
    "Nonce": {
        "type": "object",
        "properties": {"nonce": TEXT, "expires_in": COUNT},
        "required": ["nonce", "expires_in"],
    },
}

_SHIPPED: Mapping[str, Schema] = {
    "log": {**TEXT, "description": "How the log is called."},
    "product": word(tuple(Product)),
    "batch": {**TEXT, "description": "Its name for good: what comes twice counts once."},
    "east_of_utc": {"type": "integer", "description": "Seconds, of the clock that the lines go by."},
}


def wire_paths() -> Mapping[str, Members]:
    """Return the operations of the devices' own routes, by path and method."""
    found: dict[str, Members] = {f"/api/v1/{kind}": {"post": _operation(kind)} for kind in _ABOUT}
    found["/api/v1/recover"] = {
        "post": {
            "operationId": "post_recover",
            "summary": "A request of a device whose certificate no longer opens a connection.",
            "tags": ["devices' own"],
            "requestBody": _body(_RECOVERY),
            "responses": _responses("WireReply"),
        }
    }
    found["/api/v1/station/journal"] = {
        "post": {
            "operationId": "post_station_journal",
            "summary": "By a station: entries of its journal go up, its rules come down.",
            "tags": ["devices' own"],
            "requestBody": _body(_JOURNAL),
            "responses": _responses("JournalReceipt"),
        }
    }
    found["/api/v1/monitor/lines"] = {"post": _lines()}
    found["/api/v1/renewal-info/{name}"] = {
        "get": {
            "operationId": "get_renewal_info",
            "summary": "When a certificate is to be renewed (RFC 9773); `Retry-After`: when to ask again.",
            "tags": ["devices' own"],
            "parameters": [{"name": "name", "in": "path", "required": True, "schema": _CERTIFICATE_NAME}],
            "responses": _responses("RenewalInfo"),
        }
    }
    found["/api/v1/nonce"] = {
        "get": {
            "operationId": "get_nonce",
            "summary": "A fresh nonce for a recovery proof.",
            "tags": ["devices' own"],
            "responses": _responses("Nonce"),
        }
    }
    return found


def _lines() -> Members:
    return {
        "operationId": "post_monitor_lines",
        "summary": "By an operator, or a device that may: lines of another server's log, read for refusals.",
        "tags": ["devices' own"],
        "parameters": [
            {"name": name, "in": "query", "required": name in {"log", "product"}, "schema": schema}
            for name, schema in _SHIPPED.items()
        ],
        "requestBody": {"required": True, "content": {"text/plain": {"schema": TEXT}}},
        "responses": _responses("ShippedLines"),
    }


def _operation(kind: str) -> Members:
    found: dict[str, Json] = {
        "operationId": f"post_{kind}",
        "summary": _ABOUT[kind],
        "tags": ["devices' own"],
        "requestBody": _body(_request(kind)),
        "responses": _responses("WireReply"),
    }
    if kind in _IN_QUERY:
        asked = _IN_QUERY[kind].items()
        found["parameters"] = [{"name": name, "in": "query", "schema": schema} for name, schema in asked]
    return found


def _request(kind: str) -> Schema:
    return {
        "type": "object",
        "properties": {"v": {"const": 1}, "id": TEXT, "type": {"const": kind}, **_OWN.get(kind, {})},
        "required": ["v", "id", "type", *_NEEDED.get(kind, ())],
    }


def _body(schema: Schema) -> Members:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _responses(shape: str) -> Members:
    return {
        "200": {"description": "Answered.", "content": {"application/json": {"schema": ref(shape)}}},
        "default": {
            "description": "Refused, with the same members as a reply or as a problem document.",
            "content": {PROBLEM_TYPE: {"schema": ref("Problem")}},
        },
    }

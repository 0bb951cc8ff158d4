"""A device's story in words: of each entry of the trail the step, the rule that decided, and what it saw.

The words of steps are those of the requests (`enroll`, `renew`, `confirm` ...); of a refusal, the failing
step is behind it (`renew/standing`), as device, server and command line all call it. What a table here does
not know is told by its own words: nothing is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from device_agent.wire.problems import RETRY_ADVICE, ProblemCode, Retry
from fleet.core import trace
from fleet.model import AuditEntry

_SHOWN = 12
"""Characters of a hash: enough to tell keys and codes apart."""


class Came(StrEnum):
    """What came of a step."""

    DONE = "done"
    REFUSED = "refused"
    ALARM = "alarm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One decision about a device: at which step, by which rule, on what, and what to do now."""

    step: str
    came: Came
    rule: str
    saw: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class _Act:
    """How an action is told; `{name}` stands for a detail of the entry, empty where it has none."""

    step: str
    rule: str
    saw: str
    came: Came = Came.DONE


_ACTS: Mapping[str, _Act] = {
    "device.registered": _Act("register", "an operator, a list or a claim makes it known", "{kind} {batch}"),
    "device.approved": _Act("approve", "an operator compared the short code", "key {key_hash}"),
    "device.rejected": _Act("approve", "an operator said no", "{reason}", Came.REFUSED),
    "device.suspended": _Act("suspend", "an operator keeps it out", "{reason}"),
    "device.resumed": _Act("resume", "an operator lets it go on", "{reason}"),
    "device.retired": _Act("retire", "an operator ended it for good", "{reason}"),
    "device.revoked": _Act("revoke", "what was revoked is never admitted again", "{reason}"),
    "device.replaced": _Act("replace", "a new lineage takes the place of the old one", "{reason}"),
    "device.proved": _Act("proof", "who it is, was shown by:", "{evidence}, assurance {assurance}"),
    "device.ruled": _Act("rule", "the profiles of the domain", "profile {profile}, assurance {assurance}"),
    "device.enriched": _Act("webhook", "the company's own service allowed it, and told of it", "{profile}"),
    "device.done": _Act("done", "the device has dropped its older keys", ""),
    "device.alarmed": _Act("alarm", "two lines of it, or an older state", "{evidence}", Came.ALARM),
    "device.changed": _Act("{event}", "what happened changes its record", ""),
    "code.created": _Act("admit", "a one-time code admits one key", "code {code}"),
    "code.closed": _Act("admit", "the code admits nobody any more", "code {code}"),
    "certificate.issued": _Act(
        "issue", "what the profile says is signed", "until {not_after}, profile {profile}"
    ),
    "certificate.confirmed": _Act("confirm", "the device holds it, and has shown so", ""),
    "certificate.dead": _Act("confirm", "its key was given up: another one came after it", "key {key_hash}"),
    "certificate.revoked": _Act("revoke", "it is admitted nowhere any more", "{reason}{reason_code}"),
    "certificate.superseded": _Act("renew", "a newer one is in force", ""),
    "certificate.adopted": _Act("adopt", "another CA's certificate is on a list of its fleet", ""),
    "key.reused": _Act("key", "each key is one device's", "key {key_hash}, held by {held_by}", Came.REFUSED),
    "trust.refused": _Act("trust", "it holds other roots than those in force", "{reason}", Came.REFUSED),
    "profile.assigned": _Act("profile", "an operator chose its profile", "profile {profile}"),
    "thing.registered": _Act("provision", "a template of AWS names it", "template {template}"),
}

_FIXES: Mapping[ProblemCode, str] = {
    ProblemCode.MALFORMED: "update the client: it does not speak this protocol",
    ProblemCode.TOO_LARGE: "make the request smaller: fleet conform shows how it should be",
    ProblemCode.UNSUPPORTED_VERSION: "update the agent, or the server",
    ProblemCode.UNSUPPORTED_TYPE: "update the agent, or the server",
    ProblemCode.BAD_CSR: "mend the request: fleet conform says what is wrong with it",
    ProblemCode.BAD_KEY: "make a key of a type that fleet profile show names",
    ProblemCode.KEY_IN_USE: "make a new key: this one is another device's, or its own of before",
    ProblemCode.BAD_IDENTITY: "ask under the device's own id",
    ProblemCode.NOT_ALLOWED: "see fleet profile show, and what admits it: fleet claim list",
    ProblemCode.CODE_INVALID: "make a new code: fleet claim create --domain {domain} --device {id}",
    ProblemCode.CODE_CONFLICT: "find the device: a second key came with its code",
    ProblemCode.NOT_CURRENT: "the device asks again by itself with what it holds now",
    ProblemCode.UNKNOWN_DEVICE: "fleet device register {id} --domain {domain}",
    ProblemCode.REVOKED: "if it is to come back: fleet claim create --domain {domain} --device {id}",
    ProblemCode.SUSPENDED: "fleet device resume {id} --domain {domain}",
    ProblemCode.FROZEN: "fleet device explain {id} says which alarm froze it",
}
"""What to do about a refusal; those that are not here end by themselves."""


class _Details(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return ""


def decision(entry: AuditEntry) -> Decision:
    """Return what an entry tells of a device."""
    details = _Details({name: _short(name, value) for name, value in entry.details if name != trace.DETAIL})
    if entry.action == "request.refused":
        return _refusal(entry, details)
    if entry.action == "certificate.intended":
        return _intention(details)
    act = _ACTS.get(entry.action)
    if act is None:
        step, _, done = entry.action.partition(".")
        saw = ", ".join(f"{name} {value}" for name, value in details.items())
        return Decision(step=step, came=Came.DONE, rule=done.replace("-", " "), saw=saw)
    return Decision(
        step=act.step.format_map(details) or entry.action,
        came=act.came,
        rule=act.rule,
        saw=_tidy(act.saw.format_map(details)),
    )


def _intention(details: _Details) -> Decision:
    if details["parent"]:
        rule, step = f"its certificate {details['parent']} is in force, and the key is new", "renew"
    else:
        rule, step = "what it showed admits one key, and this is the first", "enroll"
    return Decision(step=step, came=Came.DONE, rule=rule, saw=f"key {details['key_hash']}")


def _refusal(entry: AuditEntry, details: _Details) -> Decision:
    code = details["code"]
    known = ProblemCode(code) if code in set(ProblemCode) else None
    fix = "" if known is None else _FIXES.get(known, "")
    if not fix and known is not None and RETRY_ADVICE[known] is not Retry.NEVER:
        fix = "it asks again by itself"
    where = f" from {details['address']}" if details["address"] else ""
    by = " by somebody who said to be it" if entry.actor == "unknown" else ""
    request, step = details["request"] or "request", details["step"]
    return Decision(
        step=f"{request}/{step}" if step else request,
        came=Came.REFUSED,
        rule=code,
        saw=f"{details['reason']}{by}{where}",
        advice=fix.format(id=entry.device_id, domain=entry.domain or "DOMAIN"),
    )


def _short(name: str, value: str) -> str:
    return f"{value[:_SHOWN]}..." if name in {"key_hash", "code"} and len(value) >= 32 else value


def _tidy(text: str) -> str:
    """Return a text without the words around what is not there."""
    parts = [part.strip() for part in text.split(",")]
    return ", ".join(part for part in parts if part and part not in {"profile", "key", "assurance", "until"})

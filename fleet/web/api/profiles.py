"""Operators' routes of profiles: what certificates of devices hold, and who gets which."""

from collections.abc import Sequence

from device_agent.wire.identity import parse_device_id
from device_agent.wire.problems import MalformedMessageError
from fleet.core.profile import Profile
from fleet.core.way_back import ways_told
from fleet.errors import NotFoundError
from fleet.model import Role
from fleet.ra.people.assignments import Assignment, assign
from fleet.store.inventory import Assigned, assigned_profiles
from fleet.web.api.asked import Asked, page_of
from fleet.web.api.routes import Members, One, Page, Route, listed


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="GET",
            path="profiles",
            role=Role.VIEWER,
            handler=_list,
            about="Profiles that are in force, by domain and name.",
            query=("domain",),
            answer=Page("Profile"),
        ),
        Route(
            method="GET",
            path="profiles/{domain}/{name}",
            role=Role.VIEWER,
            handler=_show,
            about="One profile.",
            answer=One("Profile"),
        ),
        Route(
            method="POST",
            path="profiles/assign",
            role=Role.SECURITY,
            handler=_assign,
            about="Choose the profile of a device or of a batch; without `profile`, take the choice back.",
            body=("domain", "profile", "device_id", "batch"),
            needs=frozenset({"domain"}),
            answer=One("Assignment"),
        ),
    )


async def _list(asked: Asked) -> Members:
    query = asked.query()
    only = query.domain("domain")
    found = [
        (domain.name, profile)
        for domain in asked.context.config.domains
        for profile in domain.profiles
        if only in {"", domain.name}
    ]
    page, following = page_of(found, query, key=lambda one: f"{one[0]}/{one[1].name}")
    counted = await asked.context.store.read(assigned_profiles, None)
    return listed([_members(asked, domain, profile, counted) for domain, profile in page], following)


async def _show(asked: Asked) -> Members:
    found = asked.request.match_info
    domain = asked.context.config.domain(asked.domain(found["domain"]))
    for profile in () if domain is None else domain.profiles:
        if domain is not None and profile.name == found["name"]:
            counted = await asked.context.store.read(assigned_profiles, None)
            return _members(asked, domain.name, profile, counted)
    raise NotFoundError(f"{found['domain']} has no profile {found['name'][:64]!r}", hint="fleet profile list")


async def _assign(asked: Asked) -> Members:
    body = asked.body()
    if ("device_id" in body) == ("batch" in body):
        raise MalformedMessageError("name either a device_id or a batch")
    wanted = Assignment(
        domain=asked.domain(body.text("domain", longest=32)),
        profile=body.text("profile", longest=32) if "profile" in body else "",
        device_id=parse_device_id(body.text("device_id", longest=64)) if "device_id" in body else "",
        batch=body.text("batch", longest=32) if "batch" in body else "",
        actor=asked.actor,
    )
    await assign(asked.context, wanted)
    return {
        "domain": wanted.domain,
        "profile": wanted.profile or None,
        "device_id": wanted.device_id or None,
        "batch": wanted.batch or None,
    }


def _members(asked: Asked, domain: str, profile: Profile, counted: Sequence[Assigned]) -> Members:
    """Return a profile as JSON, each setting under its name in fleet.toml, and who it was assigned to."""
    own = next((one for one in counted if (one.domain, one.profile) == (domain, profile.name)), None)
    policy = asked.context.config.policy
    ways = ways_told(
        grace_days=policy.grace_days, way=policy.hardware_returns, code_days=policy.code_lifetime_days
    )
    return {
        "domain": domain,
        "profile": profile.name,
        "key_types": sorted(profile.key_types),
        "rsa_bits": profile.rsa_bits,
        "lifetime_days": profile.lifetime.days,
        "backdate_minutes": int(profile.backdate.total_seconds() // 60),
        "usages": [usage.value for usage in profile.extended_key_usage],
        "names": list(profile.names),
        "renew_from": round(profile.renew_from, 4),
        "renew_spread": round(profile.renew_spread, 4),
        "same_key": profile.same_key,
        "approval": profile.approval,
        "assurance": profile.assurance.word,
        "by_label": profile.by_label,
        "server_key": profile.server_key,
        "ways_back": ways,
        "experimental": profile.is_experimental,
        "devices": 0 if own is None else own.devices,
        "batches": 0 if own is None else own.batches,
    }

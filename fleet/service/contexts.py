"""Makes the context of the use cases, once ports are bound and the broker is up."""

import secrets
from dataclasses import dataclass

from fleet.broker.mosquitto import MosquittoBroker
from fleet.ra.allowlist import BrokerLink
from fleet.ra.context import Context, Endpoints
from fleet.ra.crls import CrlBook
from fleet.ra.limits import RateLimiter
from fleet.ra.makers import load_makers
from fleet.ra.nonces import Nonces
from fleet.ra.presence import Presence
from fleet.ra.turns import Turns
from fleet.ra.webhook import HookRules, Webhook
from fleet.ra.witness import Witness
from fleet.service.brokers import Broker
from fleet.service.carriers import carriers_of
from fleet.service.parts import Parts
from fleet.service.way import Way
from fleet.web.webhook import HttpsHookCaller, read_secret
from fleet.web.witness import submitter


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is known once the ports are bound and the broker is up."""

    endpoints: Endpoints
    book: CrlBook
    broker: Broker | None = None


def context_of(
    parts: Parts,
    surroundings: Surroundings,
    *,
    way: Way | None = None,
) -> Context:
    way = way or Way()
    broker, policy = surroundings.broker, parts.config.policy
    return Context(
        fleet=parts.config.fleet,
        in_force=parts.in_force,
        store=parts.store,
        clock=parts.clock,
        tracer=parts.tracer,
        randomness=secrets.token_bytes,
        home=parts.home,
        endpoints=surroundings.endpoints,
        broker=BrokerLink(parts.store, () if broker is None else (broker,)),
        driver=_driver_name(broker),
        answering=way.is_open,
        post=way.post,
        carriers=carriers_of(parts, way.publish),
        crls=surroundings.book,
        presence=Presence(),
        nonces=Nonces(secrets.token_bytes(32)),
        turns=Turns(),
        by_address=RateLimiter(per_minute=policy.recover_per_minute),
        by_device=RateLimiter(per_minute=policy.recover_per_minute),
        makers=load_makers(parts.config, root=parts.home.root),
        webhook=_webhook(parts),
        witnesses=_witnesses(parts),
    )


def _webhook(parts: Parts) -> Webhook | None:
    """Return the service that is asked before a first certificate is signed, if the fleet has one."""
    settings = parts.config.webhook
    if settings is None:
        return None
    return Webhook(
        HttpsHookCaller(settings, root=parts.home.root),
        HookRules(may_set=settings.may_set, profiles=settings.profiles),
        fleet=parts.config.fleet,
        secret=read_secret(settings, root=parts.home.root),
        clock=parts.clock,
        randomness=secrets.token_bytes,
    )


def _witnesses(parts: Parts) -> tuple[Witness, ...]:
    """Return those who witness the audit trail."""
    return tuple(
        Witness(settings=settings, submit=submitter(settings, root=parts.home.root))
        for settings in parts.config.witnesses
    )


def _driver_name(broker: Broker | None) -> str:
    if broker is None:
        return "none"
    return "mosquitto" if isinstance(broker, MosquittoBroker) else "embedded"

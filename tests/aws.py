"""Devices with the AWS SDK as its makers ship it, of both generations, for tests against our brokers.

MQTT 3.1.1: `IotIdentityClient` with callbacks; MQTT 5: `IotIdentityClientV2`. Both have one face here.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import awscrt.mqtt
import awscrt.mqtt5
from awscrt.mqtt_request_response import ClientOptions
from awsiot import iotidentity, mqtt5_client_builder, mqtt_connection_builder

from device_agent.wire.identity import Identity
from fleet.ra.devices import Enlisting, Registration, enlist
from fleet.ra.people.batches import BatchOrder, create_batch
from tests.live import LiveFleet

PATIENCE_S = 20.0


class SdkRefusedError(Exception):
    """What `rejected` said."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass(frozen=True, kw_only=True)
class Created:
    certificate_id: str
    certificate_pem: str
    token: str


@dataclass(frozen=True, kw_only=True)
class Registered:
    thing_name: str
    configuration: Mapping[str, str]


class Sdk(Protocol):
    async def create(self, csr: str) -> Created: ...

    async def register(self, template: str, token: str, **parameters: str) -> Registered: ...


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim certificate on disk, as it is built into devices."""

    certificate: Path
    key: Path
    trust: Path


async def claim_for(fleet: LiveFleet, batch: str, *device_ids: str, uses: int = 100) -> Claim:
    """Register devices for a batch, and make its claim certificate."""
    context = fleet.context
    registrations = tuple(
        Registration(identity=Identity(domain="prod", device_id=device_id), batch=batch)
        for device_id in device_ids
    )
    enlisting = Enlisting(registrations=registrations, actor="operator:test", at=context.clock())
    await context.store.write(enlist, enlisting)
    order = BatchOrder(
        domain="prod", name=batch, uses=uses, lifetime=timedelta(days=1), actor="operator:test"
    )
    new = await create_batch(context, order)
    certificate = fleet.folder / f"{batch}.crt"
    key = certificate.with_suffix(".key")
    certificate.write_text(new.own.certificate_pem)
    key.write_bytes(new.own.key_pem)
    return Claim(certificate=certificate, key=key, trust=fleet.home.home.server_trust)


@dataclass(frozen=True, kw_only=True)
class _Old:
    """The first generation: subscribe, publish, and wait for one of two callbacks."""

    client: iotidentity.IotIdentityClient

    async def create(self, csr: str) -> Created:
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        wanted = iotidentity.CreateCertificateFromCsrSubscriptionRequest()
        qos = awscrt.mqtt.QoS.AT_LEAST_ONCE
        for subscribe in (
            self.client.subscribe_to_create_certificate_from_csr_accepted,
            self.client.subscribe_to_create_certificate_from_csr_rejected,
        ):
            subscribed, _ = subscribe(request=wanted, qos=qos, callback=_settle(answer))
            await _of(subscribed)
        request = iotidentity.CreateCertificateFromCsrRequest(certificate_signing_request=csr)
        await _of(self.client.publish_create_certificate_from_csr(request, qos))
        return _created(await _answer(answer))

    async def register(self, template: str, token: str, **parameters: str) -> Registered:
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        wanted = iotidentity.RegisterThingSubscriptionRequest(template_name=template)
        qos = awscrt.mqtt.QoS.AT_LEAST_ONCE
        for subscribe in (
            self.client.subscribe_to_register_thing_accepted,
            self.client.subscribe_to_register_thing_rejected,
        ):
            subscribed, _ = subscribe(request=wanted, qos=qos, callback=_settle(answer))
            await _of(subscribed)
        request = iotidentity.RegisterThingRequest(
            template_name=template, certificate_ownership_token=token, parameters=parameters
        )
        await _of(self.client.publish_register_thing(request, qos))
        return _registered(await _answer(answer))


@dataclass(frozen=True, kw_only=True)
class _New:
    """The second generation: a future a call."""

    client: iotidentity.IotIdentityClientV2

    async def create(self, csr: str) -> Created:
        request = iotidentity.CreateCertificateFromCsrRequest(certificate_signing_request=csr)
        return _created(await _of(self.client.create_certificate_from_csr(request)))

    async def register(self, template: str, token: str, **parameters: str) -> Registered:
        request = iotidentity.RegisterThingRequest(
            template_name=template, certificate_ownership_token=token, parameters=parameters
        )
        return _registered(await _of(self.client.register_thing(request)))


@asynccontextmanager
async def sdk_311(fleet: LiveFleet, claim: Claim, client_id: str) -> AsyncIterator[Sdk]:
    """Connect as the SDK's own samples do: a session that is kept, a keep-alive of its default."""
    connection = mqtt_connection_builder.mtls_from_path(
        endpoint="localhost",
        port=fleet.context.endpoints.mqtt_bootstrap_port,
        cert_filepath=str(claim.certificate),
        pri_key_filepath=str(claim.key),
        ca_filepath=str(claim.trust),
        client_id=client_id,
        clean_session=False,
    )
    await _of(connection.connect())
    try:
        yield _Old(client=iotidentity.IotIdentityClient(connection))
    finally:
        await _of(connection.disconnect())


@asynccontextmanager
async def sdk_5(fleet: LiveFleet, claim: Claim, client_id: str) -> AsyncIterator[Sdk]:
    """Connect with MQTT 5, all settings as the SDK has them."""
    loop = asyncio.get_running_loop()
    connected: asyncio.Future[object] = loop.create_future()
    stopped: asyncio.Future[object] = loop.create_future()

    def fail(data: awscrt.mqtt5.LifecycleConnectFailureData) -> None:
        loop.call_soon_threadsafe(_set_exception, connected, data.exception)

    client = mqtt5_client_builder.mtls_from_path(
        str(claim.certificate),
        str(claim.key),
        endpoint="localhost",
        port=fleet.context.endpoints.mqtt_bootstrap_port,
        ca_filepath=str(claim.trust),
        client_id=client_id,
        on_lifecycle_connection_success=_settle(connected),
        on_lifecycle_connection_failure=fail,
        on_lifecycle_stopped=_settle(stopped),
    )
    client.start()
    try:
        await _answer(connected)
        options = ClientOptions(max_request_response_subscriptions=4, max_streaming_subscriptions=2)
        yield _New(client=iotidentity.IotIdentityClientV2(client, options))
    finally:
        client.stop()
        await _answer(stopped)


def _settle(answer: "asyncio.Future[object]"):
    loop = answer.get_loop()

    def take(found: object) -> None:
        loop.call_soon_threadsafe(_set_result, answer, found)

    return take


def _set_result(answer: "asyncio.Future[object]", found: object) -> None:
    if not answer.done():
        answer.set_result(found)


def _set_exception(answer: "asyncio.Future[object]", error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)


async def _of(future: object) -> object:
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await asyncio.wrap_future(future)
    except Exception as error:
        modeled = getattr(error, "modeled_error", None)
        if modeled is None:
            raise
        raise _refused(modeled) from error


async def _answer(answer: "asyncio.Future[object]") -> object:
    async with asyncio.timeout(PATIENCE_S):
        return await answer


def _created(found: object) -> Created:
    if isinstance(found, iotidentity.ErrorResponse):
        raise _refused(found)
    assert isinstance(found, iotidentity.CreateCertificateFromCsrResponse)
    return Created(
        certificate_id=found.certificate_id,
        certificate_pem=found.certificate_pem,
        token=found.certificate_ownership_token,
    )


def _registered(found: object) -> Registered:
    if isinstance(found, iotidentity.ErrorResponse):
        raise _refused(found)
    assert isinstance(found, iotidentity.RegisterThingResponse)
    return Registered(thing_name=found.thing_name, configuration=found.device_configuration)


def _refused(error: iotidentity.ErrorResponse) -> SdkRefusedError:
    return SdkRefusedError(error.status_code, error.error_code, error.error_message)

"""A folder with all that a broker driver needs, made from a test PKI."""

import ssl
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from fleet.broker.settings import AdoptedFiles, BrokerFiles, CanaryFiles, Listeners
from fleet.model import Allowlist, AllowlistEntry, Purpose
from tests.mqtt import MqttClient, client_context
from tests.pki import Pair, Pki, bundle, entry_of

ANY_PORT = Listeners(bind="127.0.0.1", host="localhost", operational_port=0, bootstrap_port=0)


class BrokerHome:
    """The files, and clients that connect with certificates of its PKI."""

    def __init__(self, folder: Path, pki: Pki | None = None) -> None:
        self.folder = folder
        self.pki = pki or Pki()
        self.service = self.pki.service()
        self.service_entry = entry_of(self.service, "fleet-server", purpose=Purpose.SERVICE)
        self.trust = bundle(folder / "trust", "server.pem", self.pki.roots["fleet"].certificate)
        self.files = self._write()
        self._written = 0

    def allowlist(self, *entries: AllowlistEntry, sequence: int = 1) -> Allowlist:
        """Return a list of the service and these."""
        return Allowlist(sequence=sequence, entries=(self.service_entry, *entries))

    def crls(self, *, next_update: datetime | None = None) -> Sequence[bytes]:
        authorities = (*self.pki.devices.values(), self.pki.services, self.pki.claims)
        return tuple(authority.crl(next_update=next_update) for authority in authorities)

    async def open(self, pair: Pair | None, *, port: int) -> MqttClient:
        """Return a client that did its TLS handshake with a certificate, or with none."""
        return await MqttClient.open(self.context(pair), port=port)

    def context(self, pair: Pair | None) -> ssl.SSLContext:
        if pair is None:
            return client_context(trust=self.trust)
        self._written += 1
        certificate, key = pair.write(self.folder / "clients", f"client-{self._written}")
        return client_context(trust=self.trust, certificate=certificate, key=key)

    def _write(self) -> BrokerFiles:
        pki, folder = self.pki, self.folder
        certificate, key = pki.server().write(folder / "server", "tls")
        service_certificate, service_key = self.service.write(folder / "server", "fleet-server")
        canary = _canary(pki, folder / "broker")
        device_roots = [pki.roots[domain].certificate for domain in pki.devices]
        device_issuers = [authority.certificate for authority in pki.devices.values()]
        return BrokerFiles(
            folder=folder / "broker",
            certificate=certificate,
            key=key,
            operational_roots=bundle(
                folder / "broker", "operational-roots.pem", *device_roots, pki.roots["fleet"].certificate
            ),
            bootstrap_roots=bundle(
                folder / "broker", "bootstrap-roots.pem", pki.roots["bootstrap"].certificate
            ),
            operational_issuers=bundle(
                folder / "broker", "operational-issuers.pem", *device_issuers, pki.services.certificate
            ),
            bootstrap_issuers=bundle(folder / "broker", "bootstrap-issuers.pem", pki.claims.certificate),
            server_trust=self.trust,
            service_certificate=service_certificate,
            service_key=service_key,
            adopted=AdoptedFiles(
                authorities=folder / "adopted" / "authorities.pem", crls=folder / "adopted" / "crls.pem"
            ),
            canaries=(canary,),
        )


def _canary(pki: Pki, folder: Path) -> CanaryFiles:
    certificate, key = pki.canary().write(folder, "canary")
    return CanaryFiles(certificate=certificate, key=key)

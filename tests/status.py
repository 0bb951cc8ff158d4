"""Relying parties for tests: they read what the status listener would hand out, with a library of others."""

from dataclasses import dataclass

from cryptography import x509
from cryptography.x509 import ocsp

from fleet.ca import der
from fleet.ca.issuer import Issuer
from fleet.ca.ocsp import issuer_hashes
from fleet.ra.crls import ListName, PublishedCrl, list_of
from fleet.ra.status.press import press_of
from fleet.ra.status.public_lists import current_list
from fleet.ra.status.standing import ocsp_answer
from tests.desk import Desk

SHA1 = der.sequence(der.object_identifier("1.3.14.3.2.26"), der.NULL)


def ocsp_request(issuer: Issuer, *serials: str, nonce: bytes = b"") -> bytes:
    """Return a request about certificates of one CA, as most clients make it."""
    name, key = (der.tlv(der.OCTET_STRING, one) for one in issuer_hashes(issuer.certificate, "sha1"))
    asked = [der.sequence(der.sequence(SHA1, name, key, der.integer(int(serial, 16)))) for serial in serials]
    more = b""
    if nonce:
        wrapped = der.tlv(der.OCTET_STRING, der.tlv(der.OCTET_STRING, nonce))
        extension = der.sequence(der.object_identifier("1.3.6.1.5.5.7.48.1.2"), wrapped)
        more = der.explicit(2, der.sequence(extension))
    return der.sequence(der.sequence(der.sequence(*asked), more))


@dataclass(frozen=True, kw_only=True)
class RelyingParty:
    """Asks one issuing CA about its certificates."""

    desk: Desk
    issuer: Issuer

    async def ask(self, *serials: str, nonce: bytes = b"") -> ocsp.OCSPResponse:
        return ocsp.load_der_ocsp_response(await self.ask_for_bytes(*serials, nonce=nonce))

    async def ask_for_bytes(self, *serials: str, nonce: bytes = b"") -> bytes:
        body = ocsp_request(self.issuer, *serials, nonce=nonce)
        return (await ocsp_answer(self.desk.context, body)).der

    async def standing(self, serial: str) -> str:
        """Return what OCSP says: good, unknown, or the reason why not."""
        answer = await self.ask(serial)
        reason = answer.revocation_reason
        if answer.certificate_status is not ocsp.OCSPCertStatus.REVOKED:
            return answer.certificate_status.name.lower()
        return "unspecified" if reason is None else str(reason.value)

    @property
    def complete(self) -> ListName:
        return ListName(issuer=self.issuer.issuer_id)

    async def fetch(self, name: ListName) -> PublishedCrl:
        context = self.desk.context
        return await current_list(press_of(context), context.crls, name, now=self.desk.clock())

    async def listed(self, name: ListName) -> dict[str, str]:
        """Return serials and reasons of a list."""
        return entries_of((await self.fetch(name)).der)

    async def everywhere(self, serial: str) -> set[str]:
        """Return what the lists that speak of a certificate say, and OCSP: one word where they agree."""
        lists = (self.complete, list_of(self.issuer.issuer_id, serial))
        told = [(await self.listed(name)).get(serial, "good") for name in lists]
        return {*told, await self.standing(serial)}


def entries_of(crl: bytes) -> dict[str, str]:
    """Return serials and reasons of a list."""
    return {f"{one.serial_number:032x}": _reason(one) for one in x509.load_der_x509_crl(crl)}


def _reason(entry: x509.RevokedCertificate) -> str:
    for extension in entry.extensions:
        if isinstance(extension.value, x509.CRLReason):
            return str(extension.value.reason.value)
    return "unspecified"

"""OpenSSL, GnuTLS and NSS, asked of leaves of a live fleet, agree on good, expired, revoked, wrong domain.

Each relies on what a relying party has: the trust anchor, the chain, and what the status listener says.
"""

import asyncio
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleet.model import RevocationReason
from fleet.ra.selection import ByDevice
from fleet.ra.status.revoke import revoke
from tests.live import LiveDevice, LiveFleet, live, make_live_home

LATER = timedelta(days=91)
"""A leaf of 90 days has ended by then."""

GOOD, EXPIRED, REVOKED, WRONG = "good", "expired", "revoked", "wrong domain"

TABLE: dict[str, dict[str, str]] = {
    "openssl verify": {GOOD: GOOD, EXPIRED: EXPIRED, REVOKED: REVOKED, WRONG: WRONG},
    "openssl ocsp": {GOOD: GOOD, REVOKED: REVOKED},
    "gnutls certtool": {GOOD: GOOD, EXPIRED: EXPIRED, REVOKED: REVOKED, WRONG: WRONG},
    "gnutls ocsptool": {GOOD: GOOD, REVOKED: REVOKED},
    # certutil asks no OCSP, and NSS reads no list with an issuingDistributionPoint, which is critical (RFC
    # 5280 5.2.5): whoever relies on NSS for revocation asks OCSP, as the next row does.
    "nss certutil": {GOOD: GOOD, EXPIRED: EXPIRED, REVOKED: GOOD, WRONG: WRONG},
    "nss vfychain": {GOOD: GOOD, EXPIRED: EXPIRED, REVOKED: REVOKED, WRONG: WRONG},
}


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A leaf in the hands of a relying party of the domain prod."""

    folder: Path
    name: str
    case: str
    ocsp: str
    """Where its status is told."""

    @property
    def certificate(self) -> Path:
        return self.folder / f"{self.name}.crt"

    @property
    def chain(self) -> Path:
        """The issuing CA."""
        return self.folder / f"{self.name}.chain"

    @property
    def full(self) -> Path:
        return self.folder / f"{self.name}.full"

    @property
    def crls(self) -> Path:
        """The list that the leaf names, and its root's."""
        return self.folder / f"{self.name}.crls"

    @property
    def root(self) -> Path:
        return self.folder / "prod.root"

    @property
    def at(self) -> datetime:
        return datetime.now(UTC) + (LATER if self.case == EXPIRED else timedelta(0))


async def told(*command: str | Path) -> str:
    """Return all that a program says."""
    ended = await asyncio.to_thread(
        subprocess.run,
        list(map(str, command)),
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return ended.stdout + ended.stderr


def first_of(text: str, words: dict[str, str]) -> str:
    """Return the verdict behind the first words that a program's answer holds."""
    return next((verdict for said, verdict in words.items() if said in text), text)


async def openssl_verify(leaf: Leaf) -> str:
    arguments: list[str | Path] = ["-CAfile", leaf.root, "-untrusted", leaf.chain, "-x509_strict"]
    arguments += ["-purpose", "sslclient", "-no-CApath", "-no-CAstore"]
    if leaf.case == EXPIRED:
        arguments += ["-attime", str(int(leaf.at.timestamp()))]  # lists of then are not there yet
    else:
        arguments += ["-crl_check_all", "-CRLfile", leaf.crls]
    said = await told("openssl", "verify", *arguments, leaf.certificate)
    return first_of(
        said,
        {
            "certificate revoked": REVOKED,
            "certificate has expired": EXPIRED,
            "unable to get local issuer": WRONG,
            ": OK": GOOD,
        },
    )


async def openssl_ocsp(leaf: Leaf) -> str:
    asked = ["-issuer", leaf.chain, "-cert", leaf.certificate, "-url", leaf.ocsp, "-CAfile", leaf.root]
    said = await told("openssl", "ocsp", *asked)
    assert "Response verify OK" in said, said
    return first_of(said, {"crt: revoked": REVOKED, "crt: good": GOOD})


async def certtool(leaf: Leaf) -> str:
    arguments: list[str | Path] = ["--verify", "--load-ca-certificate", leaf.root, "--infile", leaf.full]
    shift = ["faketime", f"+{LATER.days} days"] if leaf.case == EXPIRED else []
    if not shift:
        arguments += ["--load-crl", leaf.crls]
    said = await told(*shift, "certtool", *arguments)
    return first_of(
        said,
        {
            "chain is revoked": REVOKED,
            "expired": EXPIRED,
            "issuer is unknown": WRONG,
            "Verified. The certificate is trusted": GOOD,
        },
    )


async def ocsptool(leaf: Leaf) -> str:
    asked = ["--load-cert", leaf.certificate, "--load-issuer", leaf.chain]
    said = await told("ocsptool", f"--ask={leaf.ocsp}", *asked)
    assert "Verifying OCSP Response: Success" in said, said
    return first_of(said, {"Certificate Status: revoked": REVOKED, "Certificate Status: good": GOOD})


async def certutil(leaf: Leaf) -> str:
    database = await nss_database(leaf)
    when = ["-b", f"{leaf.at:%y%m%d%H%MZ}"]
    said = await told("certutil", "-V", "-d", database, "-n", leaf.name, "-u", "C", "-e", *when)
    return first_of(said, {"expired": EXPIRED, "issuer is not recognized": WRONG, "is valid": GOOD})


async def vfychain(leaf: Leaf) -> str:
    options: list[str | Path] = ["-d", await nss_database(leaf), "-pp", "-u", "0"]
    if leaf.case == EXPIRED:
        options += ["-b", f"{leaf.at:%y%m%d%H%MZ}"]
    else:
        options += ["-g", "leaf", "-h", "requireFreshInfo", "-m", "ocsp", "-s", "failIfNoInfo"]
    said = await told("vfychain", *options, "-a", leaf.certificate)
    words = {"has been revoked": REVOKED, "has expired": EXPIRED, "not recognized": WRONG, "is good": GOOD}
    return first_of(said, words)


async def nss_database(leaf: Leaf) -> str:
    """Make a database that trusts the domain's root alone, and knows the leaf and its issuing CA."""
    folder = leaf.folder / f"nss-{leaf.name}"
    database = f"sql:{folder}"
    if not folder.exists():
        folder.mkdir()
        await told("certutil", "-N", "-d", database, "--empty-password")
        for name, trust, file in (
            ("root", "CT,C,C", leaf.root),
            ("issuing", ",,", leaf.chain),
            (leaf.name, ",,", leaf.certificate),
        ):
            await told("certutil", "-A", "-d", database, "-n", name, "-t", trust, "-a", "-i", file)
    return database


VERIFIERS: dict[str, Callable[[Leaf], Awaitable[str]]] = {
    "openssl verify": openssl_verify,
    "openssl ocsp": openssl_ocsp,
    "gnutls certtool": certtool,
    "gnutls ocsptool": ocsptool,
    "nss certutil": certutil,
    "nss vfychain": vfychain,
}


async def taken_along(fleet: LiveFleet, device: LiveDevice, case: str, folder: Path) -> Leaf:
    """Write what a relying party has of a device; its revocation lists come from where the leaf says."""
    assert device.issued is not None
    certificate = x509.load_pem_x509_certificate(device.issued.certificate.encode())
    leaf = Leaf(folder=folder, name=device.identity.device_id, case=case, ocsp=ocsp_of(certificate))
    leaf.certificate.write_text(device.issued.certificate)
    leaf.chain.write_text(device.issued.chain)
    leaf.full.write_text(device.issued.certificate + device.issued.chain)
    leaf.root.write_text(fleet.context.authority.trust_pem("prod"))
    issuing = x509.load_pem_x509_certificate(device.issued.chain.encode())
    lists = [x509.load_der_x509_crl(await fetched(fleet, url)) for url in crls_of(certificate, issuing)]
    leaf.crls.write_bytes(b"".join(crl.public_bytes(Encoding.PEM) for crl in lists))
    return leaf


async def fetched(fleet: LiveFleet, url: str) -> bytes:
    async with fleet.http() as session, session.get(urlsplit(url).path) as response:
        assert response.status == 200, url
        return await response.read()


def crls_of(*certificates: x509.Certificate) -> Iterator[str]:
    for certificate in certificates:
        points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
        yield from (name.value for point in points for name in point.full_name or ())


def ocsp_of(certificate: x509.Certificate) -> str:
    found = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    (name,) = [one for one in found if one.access_method == x509.oid.AuthorityInformationAccessOID.OCSP]
    return str(name.access_location.value)


@pytest.mark.needs("openssl", "certtool", "certutil", "faketime")
async def test_every_verifier_says_of_every_leaf_what_the_table_says(tmp_path: Path) -> None:
    home = await asyncio.to_thread(make_live_home, tmp_path / "home", driver="embedded")
    async with live(home, tmp_path) as fleet:
        good, gone = await fleet.enrolled("good"), await fleet.enrolled("gone")
        other = await fleet.enrolled("other", domain="lab")
        await revoke(
            fleet.context,
            ByDevice(identities=(gone.identity,)),
            reason=RevocationReason.KEY_COMPROMISE,
            actor="operator:test",
        )
        held = {GOOD: good, EXPIRED: good, REVOKED: gone, WRONG: other}
        leaves = {case: await taken_along(fleet, device, case, tmp_path) for case, device in held.items()}
        found = {
            name: {case: await verifier(leaves[case]) for case in TABLE[name]}
            for name, verifier in VERIFIERS.items()
        }
    assert found == TABLE

"""The certificates that others are given to trust: devices, brokers, operators. Written from the authority.

They hold nothing but what is admitted: what was retired or is not in use yet is not among them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography import x509

from fleet.ca.hierarchy import BOOTSTRAP_REALM, FLEET_REALM, Authority
from fleet.ca.issuer import pem_bundle
from fleet.core.goodkey import PostQuantumKey
from fleet.files import PUBLIC_MODE, make_folder, telling, write_file
from fleet.home import Home
from fleet.model import Purpose


def write_trust(home: Home, authority: Authority) -> None:
    """Make the files say what the authority is; one that says it already is left alone.

    Raises:
        FleetError: a file cannot be written.
    """
    for path, certificates in _bundles(home, authority).items():
        content = pem_bundle(certificates).encode()
        if path == home.server_trust and home.brought_trust.exists():
            content += home.brought_trust.read_bytes()
        with telling(path):
            if path.is_file() and path.read_bytes() == content:
                continue
        make_folder(path.parent)
        write_file(path, content, mode=PUBLIC_MODE)


def _bundles(home: Home, authority: Authority) -> Mapping[Path, Sequence[x509.Certificate]]:
    domains = authority.domains
    at_brokers = [*_issuing(authority, Purpose.SERVICE), *_issuing(authority, Purpose.DEVICE)]
    bundles = {
        home.server_trust: _roots(authority, FLEET_REALM),
        home.broker_operational_roots: _readable(_roots(authority, FLEET_REALM, *domains)),
        home.broker_operational_issuers: _readable(at_brokers),
        home.broker_bootstrap_roots: _roots(authority, BOOTSTRAP_REALM),
        home.broker_bootstrap_issuers: _issuing(authority, Purpose.CLAIM),
    }
    for domain in domains:
        of_domain = [one for one in authority.admitted if one.domain == domain]
        above = [certificate for one in of_domain for certificate in one.chain]
        bundles[home.trust_root(domain)] = _roots(authority, domain)
        bundles[home.trust_chain(domain)] = list(
            dict.fromkeys([*(one.certificate for one in of_domain), *above])
        )
    return bundles


def _readable(certificates: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Return what brokers can read: no TLS of theirs knows post-quantum keys, so none of these is let in."""
    return [one for one in certificates if not isinstance(one.public_key(), PostQuantumKey)]


def _roots(authority: Authority, *realms: str) -> list[x509.Certificate]:
    return [root.certificate for realm in realms for root in authority.anchors if root.realm == realm]


def _issuing(authority: Authority, purpose: Purpose) -> list[x509.Certificate]:
    return [one.certificate for one in authority.admitted if one.purpose is purpose]

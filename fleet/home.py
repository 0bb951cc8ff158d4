"""The layout of a fleet home, and the lock by which one process holds it.

Holds paths and nothing else: whoever reads or writes a file knows what it means.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import NotFoundError, RefusedError
from fleet.files import make_folder, open_folder, take_lock

REFUSED_PINS = ".refused-pins"
"""Beside the folders of authorities: which PINs their tokens refused."""


STATION_ROOTS = ".stations"
"""Beside the folders of realms, whose names begin with no dot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPairFiles:
    """A certificate with its chain (0644), and its key (0600)."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorFiles:
    """What an operator gets: PEM for tools, PKCS#12 for browsers, and its password."""

    certificate: Path
    key: Path
    p12: Path
    p12_password: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityFiles:
    """The folder of one root or issuing CA."""

    folder: Path

    @property
    def ca(self) -> KeyPairFiles:
        return _pair(self.folder, "ca")

    @property
    def ocsp(self) -> KeyPairFiles:
        return _pair(self.folder, "ocsp")

    @property
    def time(self) -> KeyPairFiles:
        return _pair(self.folder, "time")

    @property
    def link(self) -> Path:
        """By which the root before it vouches for this one's key."""
        return self.folder / "link.crt"

    @property
    def link_back(self) -> Path:
        """By which this root vouches for the key of the one before it."""
        return self.folder / "link-back.crt"

    @property
    def token(self) -> Path:
        """Where the key is, if it is in a token: an RFC 7512 URI, without its PIN."""
        return self.folder / "ca.pkcs11"

    @property
    def request(self) -> Path:
        """What another CA is asked to sign, PEM (RFC 2986)."""
        return self.folder / "ca.csr"

    @property
    def crl(self) -> Path:
        """A root's CRL, DER: its key is off line, so the list is made whenever the key is at hand."""
        return self.folder / "ca.crl"


@dataclass(frozen=True, slots=True)
class Home:
    """Where everything of a fleet stands."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "fleet.toml"

    @property
    def access(self) -> Path:
        """The access policy, as operators write it; what is in force stands in the database."""
        return self.root / "access.toml"

    @property
    def database(self) -> Path:
        return self.root / "fleet.db"

    @property
    def trust(self) -> Path:
        return self.root / "trust"

    def trust_root(self, domain: str) -> Path:
        """The domain's trust anchor."""
        return self.trust / domain / "root.pem"

    def trust_chain(self, domain: str) -> Path:
        """The domain's issuing CAs."""
        return self.trust / domain / "chain.pem"

    def public_claim(self, domain: str) -> KeyPairFiles:
        """Opens the bootstrap listener, and grants nothing without a code: its key is public."""
        return _pair(self.trust / domain, "public-claim")

    @property
    def server_trust(self) -> Path:
        """What devices, operators and stations trust the servers by."""
        return self.trust / "server.pem"

    @property
    def brought_trust(self) -> Path:
        """What else they trust servers by, where a certificate of another CA was brought."""
        return self.trust / "brought.pem"

    @property
    def ca(self) -> Path:
        return self.root / "ca"

    def authority(self, realm: str) -> AuthorityFiles:
        """The root of a realm: a domain, `bootstrap` or `fleet`."""
        return AuthorityFiles(folder=self.ca / realm)

    def issuing(self, realm: str, name: str) -> AuthorityFiles:
        """An issuing CA below that root, `<purpose>-<number>`."""
        return AuthorityFiles(folder=self.ca / realm / name)

    def authority_files(self, folder: str) -> AuthorityFiles:
        """A root or issuing CA by its folder below `ca/`, as its record names it."""
        return AuthorityFiles(folder=self.ca / folder)

    def foreign_list(self, issuer: str) -> Path:
        """The CRL of somebody else's CA above one of ours, by its hex subject key identifier, DER."""
        return self.ca / ".lists" / f"{issuer}.crl"

    def station_root_key(self, issuer: str) -> Path:
        """The key of a root above stations' CAs, by its hex subject key identifier."""
        return self.station_roots / f"{issuer}.key"

    @property
    def station_roots(self) -> Path:
        """The keys of the roots above stations' CAs."""
        return self.ca / STATION_ROOTS

    @property
    def refused_pins(self) -> Path:
        """Which PINs tokens refused, as salted hashes: none is shown to its token twice."""
        return self.ca / REFUSED_PINS

    @property
    def root_passphrase(self) -> Path:
        """There only while nobody has moved it off the machine."""
        return self.ca / "root-passphrase"

    @property
    def issuing_passphrase(self) -> Path:
        return self.ca / "issuing-passphrase"

    @property
    def server(self) -> KeyPairFiles:
        """The certificate of the HTTPS and MQTT listeners."""
        return _pair(self.root / "server", "tls")

    @property
    def service(self) -> KeyPairFiles:
        """The client certificate `fleet-server`, by which the server is a client of the broker."""
        return _pair(self.root / "server", "fleet-server")

    @property
    def broker(self) -> Path:
        return self.root / "broker"

    @property
    def broker_operational_roots(self) -> Path:
        """Trust of the operational listener: the domains' roots, and the fleet's for `fleet-server`."""
        return self.broker / "operational-roots.pem"

    @property
    def broker_operational_issuers(self) -> Path:
        """The issuing CAs whose certificates connect there, each of which needs a CRL."""
        return self.broker / "operational-issuers.pem"

    @property
    def broker_bootstrap_roots(self) -> Path:
        return self.broker / "bootstrap-roots.pem"

    @property
    def broker_bootstrap_issuers(self) -> Path:
        return self.broker / "bootstrap-issuers.pem"

    @property
    def adopted_authorities(self) -> Path:
        """CAs of others whose devices connect to the operational listener, as long as an adoption is open."""
        return self.broker / "adopted-authorities.pem"

    @property
    def adopted_crls(self) -> Path:
        """The revocation lists that those made."""
        return self.broker / "adopted-crls.pem"

    @property
    def canary(self) -> KeyPairFiles:
        """A certificate revoked at birth, to prove that a broker's CRL works."""
        return _pair(self.broker, "canary")

    @property
    def operators(self) -> Path:
        return self.root / "operators"

    def operator(self, name: str) -> OperatorFiles:
        pair = _pair(self.operators, name)
        return OperatorFiles(
            certificate=pair.certificate,
            key=pair.key,
            p12=self.operators / f"{name}.p12",
            p12_password=self.operators / f"{name}.p12-password",
        )

    @property
    def stations(self) -> Path:
        return self.root / "stations"

    def station(self, name: str) -> KeyPairFiles:
        return _pair(self.stations, name)

    @property
    def audit(self) -> Path:
        return self.root / "audit"

    @property
    def audit_key(self) -> Path:
        return self.audit / "key.pem"

    @property
    def audit_public_key(self) -> Path:
        return self.audit / "public.pem"

    @property
    def checkpoint_key(self) -> Path:
        """What signs checkpoints for those who witness the trail."""
        return self.audit / "checkpoint.pem"

    @property
    def audit_head(self) -> Path:
        """The newest signed head of the audit trail."""
        return self.audit / "head.json"

    @property
    def archive(self) -> Path:
        """Parts of the audit trail that left the store."""
        return self.root / "archive"

    @property
    def run(self) -> Path:
        """What belongs to one run of the server: sockets, ports, the lock."""
        return self.root / "run"

    @property
    def admin_socket(self) -> Path:
        return self.run / "admin.sock"

    @property
    def endpoints(self) -> Path:
        return self.run / "endpoints.json"

    @property
    def factors_key(self) -> Path:
        """What seals the secrets of operators' second factors; without it each makes a new one."""
        return self.root / "second-factors.key"

    @property
    def answers_key(self) -> Path:
        """What seals the answers that are kept for a day; without it they cannot be given again."""
        return self.run / "answers.key"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the home for one process; the kernel lets go of it when the process ends.

        Raises:
            RefusedError: another process holds it.
        """
        make_folder(self.run)
        with open_folder(self.run) as descriptor:
            if not take_lock(descriptor):
                raise RefusedError(
                    f"the fleet home {self.root} is in use by another process",
                    hint="fleet serve runs there already, or another command works; wait for it or stop it",
                )
            yield


def open_home(root: Path) -> Home:
    """Return the home that is there.

    Raises:
        NotFoundError: it is not a fleet home.
    """
    home = Home(root.absolute())
    if home.config.is_file() and home.database.is_file():
        return home
    if home.config.is_file() or home.ca.is_dir():
        what = "fleet.toml" if home.database.is_file() else "fleet.db"
        raise NotFoundError(
            f"the fleet home {root} has lost its {what}", hint="restore it from a backup: fleet ca restore"
        )
    raise NotFoundError(f"{root} is no fleet home", hint="fleet init makes one; --home names another")


def _pair(folder: Path, name: str) -> KeyPairFiles:
    return KeyPairFiles(certificate=folder / f"{name}.crt", key=folder / f"{name}.key")

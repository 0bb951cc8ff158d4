"""Judges a certificate before it is signed: every rule beside its clause, every rule able to fail.

It looks at encoded bytes, never at the code that made them, and never mends what it finds.
"""

import re
from datetime import timedelta

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtensionOID, NameOID, SignatureAlgorithmOID

from device_agent.wire.identity import (
    serial_hex,
)
from fleet.ca.building import USAGE_OIDS, key_identifier, subject_name
from fleet.ca.lint_case import Case as Case  # noqa: PLC0414 - who lints finds all of it here
from fleet.ca.lint_case import Rule, value_of
from fleet.ca.lint_identity import device_identity, own_identity
from fleet.core.goodkey import certified_key, check_key, key_hash
from fleet.core.profile import KeyUsage, Usage
from fleet.errors import FleetError, RefusedError
from fleet.model import Purpose

_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*", re.ASCII)
_SIGNATURES = frozenset(
    {
        SignatureAlgorithmOID.ECDSA_WITH_SHA256,
        SignatureAlgorithmOID.ECDSA_WITH_SHA384,
        SignatureAlgorithmOID.RSA_WITH_SHA256,
        SignatureAlgorithmOID.ED25519,
        # RFC 9881 2: experimental.
        SignatureAlgorithmOID.ML_DSA_44,
        SignatureAlgorithmOID.ML_DSA_65,
    }
)

_USAGE_OF_PURPOSE = {
    Purpose.DEVICE: [{Usage.CLIENT_AUTH}, {Usage.CLIENT_AUTH, Usage.SERVER_AUTH}],
    Purpose.CLAIM: [{Usage.CLIENT_AUTH}],
    Purpose.SERVICE: [{Usage.CLIENT_AUTH}],
    Purpose.OPERATOR: [{Usage.CLIENT_AUTH}],
    Purpose.STATION: [{Usage.CLIENT_AUTH}],
    Purpose.SERVER: [{Usage.SERVER_AUTH}],
    Purpose.SIGNER: [{Usage.OCSP_SIGNING}, {Usage.TIME_STAMPING}],
    Purpose.AUTHORITY: [set[Usage]()],
}

_LONGEST = {
    Purpose.DEVICE: timedelta(days=3652),
    Purpose.CLAIM: timedelta(days=3652),
    Purpose.SERVER: timedelta(days=398),
    Purpose.SERVICE: timedelta(days=398),
    Purpose.OPERATOR: timedelta(days=398),
    Purpose.STATION: timedelta(days=398),
    Purpose.SIGNER: timedelta(days=398),
    Purpose.AUTHORITY: timedelta(days=7310),
}
"""From notBefore to notAfter. CA/B BR 6.3.2 has 398 days for servers; the others are ours."""

_CRITICAL = {
    ExtensionOID.BASIC_CONSTRAINTS: True,
    ExtensionOID.NAME_CONSTRAINTS: True,
    ExtensionOID.KEY_USAGE: True,
    ExtensionOID.EXTENDED_KEY_USAGE: False,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME: False,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER: False,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER: False,
    ExtensionOID.AUTHORITY_INFORMATION_ACCESS: False,
    ExtensionOID.CRL_DISTRIBUTION_POINTS: False,
    ExtensionOID.OCSP_NO_CHECK: False,
}
"""Every extension that we issue, and whether it is critical (RFC 5280 4.2.1, 4.2.2)."""


def require_clean(case: Case) -> None:
    """Raise if a certificate breaks any rule.

    Raises:
        FleetError: with every rule that it breaks. It is a defect of ours, never of the applicant.
    """
    if faults := faults_of(case):
        raise FleetError(
            f"the certificate for {case.template.applicant.common_name} was not signed: {'; '.join(faults)}",
            hint="this is a defect of the server: report it with this line",
        )


def faults_of(case: Case) -> tuple[str, ...]:
    """Return what is wrong with a certificate, each with its clause."""
    try:
        case.certificate.extensions  # noqa: B018  the library reads them at the first access
    except (ValueError, x509.DuplicateExtension) as error:
        return (f"RFC 5280 4.2: extensions cannot be read: {error}",)
    return tuple(fault for rule in RULES if (fault := rule(case)) is not None)


def _version(case: Case) -> str | None:
    if case.certificate.version is not x509.Version.v3:
        return "RFC 5280 4.1.2.1: version is not 3"
    return None


def _serial(case: Case) -> str | None:
    number = case.certificate.serial_number
    if serial_hex(number) != case.serial or not 0x40 <= number >> 120 <= 0x7F:
        return "RFC 5280 4.1.2.2: serial is not the 16 positive octets that were recorded for it"
    return None


def _signature_algorithm(case: Case) -> str | None:
    if case.certificate.signature_algorithm_oid not in _SIGNATURES:
        return "RFC 9155: signature algorithm is none of ours, or its hash is weaker than SHA-256"
    return None


def _issuer_name(case: Case) -> str | None:
    issuer = case.certificate.subject if case.issuer is None else case.issuer.subject
    if case.certificate.issuer.public_bytes() != issuer.public_bytes():
        return "RFC 5280 4.1.2.4: issuer is not the CA's subject, byte for byte"
    return None


def _issuer_may_sign(case: Case) -> str | None:
    if case.issuer is None:
        return None
    constraints = value_of(case.issuer, x509.BasicConstraints)
    usage = value_of(case.issuer, x509.KeyUsage)
    if constraints is None or usage is None or not constraints.ca or not usage.key_cert_sign:
        return "RFC 5280 4.2.1.9: the issuer is no CA"
    if case.template.is_ca and constraints.path_length == 0:
        return "RFC 5280 4.2.1.9: the issuer's path length leaves no room for a CA"
    return None


def _validity(case: Case) -> str | None:
    certificate, template = case.certificate, case.template
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if (start, end) != (template.not_before, template.not_after) or start >= end:
        return "RFC 5280 4.1.2.5: validity is not that of the template"
    if case.issuer is not None and end > case.issuer.not_valid_after_utc:
        return "RFC 5280 4.1.2.5: validity ends after the issuing CA's"
    if end - start > _LONGEST[template.purpose]:
        return f"CA/B BR 6.3.2: validity is longer than {_LONGEST[template.purpose].days} days"
    return None


def _subject(case: Case) -> str | None:
    subject = case.certificate.subject
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if subject != subject_name(case.template.applicant) or len(names) != 1 or not names[0].value:
        return "RFC 5280 4.1.2.6: subject is not that of the template, with one common name"
    return None


def _public_key(case: Case) -> str | None:
    try:
        key = certified_key(case.certificate.public_key())
        check_key(key)
    except RefusedError as error:
        return f"RFC 5280 4.1.2.7: {error}"
    if key_hash(key) != key_hash(case.template.public_key):
        return "RFC 5280 4.1.2.7: the key is not the applicant's"
    return None


def _known_extensions(case: Case) -> str | None:
    for extension in case.certificate.extensions:
        name = extension.oid.dotted_string
        if extension.oid not in _CRITICAL:
            return f"RFC 5280 4.2: extension {name} is none of ours"
        critical = _CRITICAL[extension.oid]
        value = extension.value
        if extension.oid == ExtensionOID.EXTENDED_KEY_USAGE and isinstance(value, x509.ExtendedKeyUsage):
            # RFC 3161 2.3: the usage of a time stamping key is critical.
            critical = USAGE_OIDS[Usage.TIME_STAMPING] in value
        if extension.critical != critical:
            return f"RFC 5280 4.2: extension {name} must {'' if critical else 'not '}be critical"
    return None


def _authority_key(case: Case) -> str | None:
    found = value_of(case.certificate, x509.AuthorityKeyIdentifier)
    if case.issuer is None:
        # RFC 5280 4.2.1.1: only a self-signed one may be without; ours is.
        return None if found is None else "RFC 5280 4.2.1.1: a root names no other key"
    if found is None or found.key_identifier != key_identifier(case.issuer).digest:
        return "RFC 5280 4.2.1.1: authority key identifier is not the issuing CA's"
    return None


def _subject_key(case: Case) -> str | None:
    found = value_of(case.certificate, x509.SubjectKeyIdentifier)
    # Method 1: SHA-1 of the key's BIT STRING, as every peer computes it; no secret hangs on it.
    expected = x509.SubjectKeyIdentifier.from_public_key(case.template.public_key)
    return None if found == expected else "RFC 5280 4.2.1.2: subject key identifier is not the key's"


def _key_usage(case: Case) -> str | None:
    found = value_of(case.certificate, x509.KeyUsage)
    expected = {KeyUsage.DIGITAL_SIGNATURE}
    if case.template.is_ca:
        expected = {KeyUsage.KEY_CERT_SIGN, KeyUsage.CRL_SIGN}
    if found is None or _usages(found) != expected:
        return "RFC 5280 4.2.1.3: key usage must be " + " and ".join(sorted(expected))
    return None


def _usages(usage: x509.KeyUsage) -> set[KeyUsage | str]:
    granted: dict[KeyUsage | str, bool] = {
        KeyUsage.DIGITAL_SIGNATURE: usage.digital_signature,
        KeyUsage.KEY_CERT_SIGN: usage.key_cert_sign,
        KeyUsage.CRL_SIGN: usage.crl_sign,
        "nonRepudiation": usage.content_commitment,
        "keyEncipherment": usage.key_encipherment,
        "dataEncipherment": usage.data_encipherment,
        "keyAgreement": usage.key_agreement,
    }
    return {name for name, is_granted in granted.items() if is_granted}


def _alternative_names(case: Case) -> str | None:
    found = value_of(case.certificate, x509.SubjectAlternativeName)
    applicant = case.template.applicant
    if found is None:
        nameless = case.template.purpose in {Purpose.AUTHORITY, Purpose.SIGNER}
        return None if nameless else "RFC 5280 4.2.1.6: there is no subjectAltName"
    names, addresses = found.get_values_for_type(x509.DNSName), found.get_values_for_type(x509.IPAddress)
    if len(list(found)) != len(names) + len(addresses):
        return "RFC 5280 4.2.1.6: subjectAltName holds other names than dNSName and iPAddress"
    if tuple(names) != applicant.dns_names or tuple(addresses) != applicant.addresses:
        return "RFC 5280 4.2.1.6: subjectAltName is not that of the template"
    if not all(_DNS_NAME.fullmatch(name) for name in names):
        return "RFC 5280 4.2.1.6: a dNSName is not in preferred name syntax (RFC 1034 3.5)"
    return None


def _basic_constraints(case: Case) -> str | None:
    found = value_of(case.certificate, x509.BasicConstraints)
    if case.template.is_ca:
        ok = found is not None and found.ca and found.path_length == case.template.path_length
        return None if ok else "RFC 5280 4.2.1.9: basic constraints are not those of this CA"
    return None if found is None else "RFC 5280 4.2.1.9: a leaf of ours has no basic constraints"


def _name_constraints(case: Case) -> str | None:
    found = value_of(case.certificate, x509.NameConstraints)
    expected = [x509.DNSName(name) for name in case.template.permitted_names]
    if found is None:
        return "RFC 5280 4.2.1.10: a limited CA must say so" if expected else None
    if found.excluded_subtrees is not None or found.permitted_subtrees != expected:
        return "RFC 5280 4.2.1.10: name constraints are not those of this CA"
    return None


def _extended_key_usage(case: Case) -> str | None:
    found = value_of(case.certificate, x509.ExtendedKeyUsage)
    oids = set() if found is None else set(found)
    granted = set(case.template.extended_key_usage)
    if granted not in _USAGE_OF_PURPOSE[case.template.purpose] or oids != {
        USAGE_OIDS[one] for one in granted
    }:
        return f"RFC 5280 4.2.1.12: extended key usage is not that of a {case.template.purpose} certificate"
    return None


def _no_check(case: Case) -> str | None:
    found = value_of(case.certificate, x509.OCSPNoCheck)
    usage = value_of(case.certificate, x509.ExtendedKeyUsage)
    is_responder = usage is not None and USAGE_OIDS[Usage.OCSP_SIGNING] in usage
    if is_responder != (found is not None):
        return "RFC 6960 4.2.2.2.1: id-pkix-ocsp-nocheck belongs to OCSP responders, and to them alone"
    return None


def _crl_points(case: Case) -> str | None:
    found = value_of(case.certificate, x509.CRLDistributionPoints)
    facts = case.template.issuer
    if facts is None or case.template.ocsp_nocheck or not case.template.has_status:
        return None if found is None else "RFC 5280 4.2.1.13: no CRL speaks of this certificate"
    names = [name for point in found or () for name in point.full_name or ()]
    expected = facts.crl_url(case.serial)
    if [name.value for name in names] != [expected] or not expected.startswith("http://"):
        return "RFC 5280 4.2.1.13: the distribution point is not the issuing CA's CRL over plain http"
    return None


def _information_access(case: Case) -> str | None:
    found = value_of(case.certificate, x509.AuthorityInformationAccess)
    facts = case.template.issuer
    if facts is None or not case.template.has_status:
        return None if found is None else "RFC 5280 4.2.2.1: nobody is asked about this certificate"
    expected = {(AuthorityInformationAccessOID.CA_ISSUERS, facts.certificate_url)}
    if facts.ocsp_url is not None and not case.template.ocsp_nocheck:
        expected.add((AuthorityInformationAccessOID.OCSP, facts.ocsp_url))
    given = {(one.access_method, one.access_location.value) for one in found or ()}
    if given != expected or not all(url.startswith("http://") for _, url in expected):
        return "RFC 5280 4.2.2.1: access is not the issuing CA's certificate and OCSP over plain http"
    return None


RULES: tuple[Rule, ...] = (
    _version,
    _serial,
    _signature_algorithm,
    _issuer_name,
    _issuer_may_sign,
    _validity,
    _subject,
    _public_key,
    _known_extensions,
    _authority_key,
    _subject_key,
    _key_usage,
    _alternative_names,
    _basic_constraints,
    _name_constraints,
    _extended_key_usage,
    _no_check,
    _crl_points,
    _information_access,
    device_identity,
    own_identity,
)
"""Every rule; each has a test that breaks it."""

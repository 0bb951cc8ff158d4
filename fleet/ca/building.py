"""Turns an approved template into the fields of an X.509 certificate (RFC 5280 4), one function an extension.

Adds nothing that the template does not say, and knows nothing of requests.
"""

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from fleet.core.profile import Applicant, IssuerFacts, KeyUsage, Template, Usage

USAGE_OIDS = {
    Usage.CLIENT_AUTH: ExtendedKeyUsageOID.CLIENT_AUTH,
    Usage.SERVER_AUTH: ExtendedKeyUsageOID.SERVER_AUTH,
    Usage.OCSP_SIGNING: ExtendedKeyUsageOID.OCSP_SIGNING,
    Usage.TIME_STAMPING: ExtendedKeyUsageOID.TIME_STAMPING,
}


def builder_of(
    template: Template, *, serial: str, issuer: x509.Certificate | None
) -> x509.CertificateBuilder:
    """Return the builder of a certificate; a root has no issuer but itself."""
    subject = subject_name(template.applicant)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(template.public_key)
        .serial_number(int(serial, 16))
        .not_valid_before(template.not_before)
        .not_valid_after(template.not_after)
    )
    for extension, critical in _extensions(template, issuer, serial):
        builder = builder.add_extension(extension, critical=critical)
    return builder


def subject_name(applicant: Applicant) -> x509.Name:
    """Return the subject: organization before common name, as the more general one (X.501 9.2)."""
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, applicant.common_name)]
    if applicant.organization is not None:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, applicant.organization))
    return x509.Name(attributes)


def key_identifier(certificate: x509.Certificate) -> x509.SubjectKeyIdentifier:
    """Return the subject key identifier that a CA's certificate holds (RFC 5280 4.2.1.2)."""
    return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value


def _extensions(
    template: Template, issuer: x509.Certificate | None, serial: str
) -> list[tuple[x509.ExtensionType, bool]]:
    found: list[tuple[x509.ExtensionType, bool]] = []
    if template.is_ca:
        # RFC 5280 4.2.1.9: critical in a CA. A leaf has none: what does not say that it is a CA is none.
        found.append((x509.BasicConstraints(ca=True, path_length=template.path_length), True))
    if template.permitted_names:
        permitted = [x509.DNSName(name) for name in template.permitted_names]
        found.append((x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=None), True))
    # RFC 5280 4.2.1.3 says SHOULD; old stacks ignore a non-critical key usage, so it is a MUST here.
    found.append((key_usage(template.key_usage), True))
    if template.extended_key_usage:
        # RFC 3161 2.3 wants it critical for time stamping, so that the key can be for nothing else.
        critical = Usage.TIME_STAMPING in template.extended_key_usage
        usages = x509.ExtendedKeyUsage([USAGE_OIDS[usage] for usage in template.extended_key_usage])
        found.append((usages, critical))
    if names := _alternative_names(template.applicant):
        found.append((x509.SubjectAlternativeName(names), False))
    found.append((x509.SubjectKeyIdentifier.from_public_key(template.public_key), False))
    if issuer is not None:
        authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_identifier(issuer))
        found.append((authority, False))
    if template.ocsp_nocheck:
        found.append((x509.OCSPNoCheck(), False))
    if template.issuer is not None and template.has_status:
        found.append((_access(template.issuer, nocheck=template.ocsp_nocheck), False))
        # RFC 6960 4.2.2.2.1: what says nocheck is checked for its lifetime alone.
        if not template.ocsp_nocheck:
            found.append((_crl_point(template.issuer, serial), False))
    return found


def key_usage(usages: frozenset[KeyUsage]) -> x509.KeyUsage:
    """Return the extension that grants these usages and no other (RFC 5280 4.2.1.3)."""
    return x509.KeyUsage(
        digital_signature=KeyUsage.DIGITAL_SIGNATURE in usages,
        key_cert_sign=KeyUsage.KEY_CERT_SIGN in usages,
        crl_sign=KeyUsage.CRL_SIGN in usages,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_names(applicant: Applicant) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in applicant.dns_names]
    return names + [x509.IPAddress(address) for address in applicant.addresses]


def _access(issuer: IssuerFacts, *, nocheck: bool) -> x509.AuthorityInformationAccess:
    # RFC 5280 4.2.2.1: where the issuing CA's certificate is, and its OCSP responder.
    access = [_place(AuthorityInformationAccessOID.CA_ISSUERS, issuer.certificate_url)]
    if issuer.ocsp_url is not None and not nocheck:
        access.insert(0, _place(AuthorityInformationAccessOID.OCSP, issuer.ocsp_url))
    return x509.AuthorityInformationAccess(access)


def _crl_point(issuer: IssuerFacts, serial: str) -> x509.CRLDistributionPoints:
    # RFC 5280 4.2.1.13: the one list that speaks of this certificate, which names itself alike (5.2.5).
    name = x509.UniformResourceIdentifier(issuer.crl_url(serial))
    return x509.CRLDistributionPoints([x509.DistributionPoint([name], None, None, None)])


def _place(method: x509.ObjectIdentifier, url: str) -> x509.AccessDescription:
    return x509.AccessDescription(method, x509.UniformResourceIdentifier(url))

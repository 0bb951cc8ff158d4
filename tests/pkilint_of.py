"""What `pkilint` finds in a certificate, list or OCSP answer, but for what is accepted, with the reason.

All validators are made once: a finding costs milliseconds.
"""

from collections.abc import Mapping
from functools import cache

from pkilint import loader, pkix
from pkilint.document import Document
from pkilint.pkix import certificate, crl, extension, name, ocsp
from pkilint.validation import ValidationFindingSeverity, ValidatorContainer

ACCEPTED: Mapping[str, str] = {
    "pkix.invalid_domain_name_syntax": (
        "a server's certificate names localhost, a single label, for what asks on the machine itself"
    ),
    "pkix.aki_absent_self_issued_and_unsupported_algorithm": (
        "a root names no other key (RFC 5280 4.2.1.1); the linter cannot verify ML-DSA, our own tests do"
    ),
}
"""Findings that are not faults of ours, by their codes."""


def faults_of_certificate(der: bytes) -> set[str]:
    """Return the codes of what is found in a certificate, but for what is only told."""
    return _codes(_certificates(), loader.load_certificate(der, "certificate"))


def faults_of_crl(der: bytes) -> set[str]:
    """Return the codes of what is found in a revocation list."""
    return _codes(_lists(), loader.RFC5280CertificateListDocumentLoader().load_document(der, "list"))


def faults_of_answer(der: bytes) -> set[str]:
    """Return the codes of what is found in an OCSP response."""
    return _codes(_answers(), loader.RFC6960OCSPResponseDocumentLoader().load_document(der, "answer"))


def _codes(validator: ValidatorContainer, document: Document) -> set[str]:
    return {
        description.finding.code
        for result in validator.validate(document.root)
        for description in result.finding_descriptions
        if description.finding.severity is not ValidationFindingSeverity.INFO
    }


@cache
def _certificates() -> ValidatorContainer:
    return certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )


@cache
def _lists() -> ValidatorContainer:
    return crl.create_pkix_crl_validator_container(
        [
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [
            crl.create_issuer_validator_container([]),
            crl.create_validity_validator_container([]),
            crl.create_extensions_validator_container([]),
        ],
    )


@cache
def _answers() -> ValidatorContainer:
    return ocsp.create_pkix_ocsp_response_validator_container(
        [
            ocsp.create_response_decoder(),
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [],
    )

"""Whether a request asks for the very names of the certificate that it renews (RFC 7030 4.2.2).

It looks at bytes from outside and answers in one way only: they are the same, or the request is refused.
"""

import warnings

from cryptography import x509

from device_agent.wire.problems import ProblemCode
from fleet.core.unreadable import UNREADABLE
from fleet.errors import RefusedError

_UNREADABLE: tuple[type[Exception], ...] = (*UNREADABLE, Warning)
_Names = tuple[x509.Name, frozenset[x509.GeneralName]]


def require_same_names(csr_pem: str, *, certificate: bytes) -> None:
    """Refuse a request whose subject or subjectAltName differs from the certificate's (DER).

    Subjects are the same when their attributes are, in their order; how a string was encoded does not
    count (RFC 5280 7.1). Alternative names are a set.

    Raises:
        RefusedError: `bad-identity` where they differ, `bad-csr` where they cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            asked = _names_of(x509.load_pem_x509_csr(csr_pem.encode()))
            held = _names_of(x509.load_der_x509_certificate(certificate))
    except _UNREADABLE as error:
        raise RefusedError("the names of the request cannot be read", code=ProblemCode.BAD_CSR) from error
    for what, is_same in (("subject", asked[0] == held[0]), ("subjectAltName", asked[1] == held[1])):
        if not is_same:
            raise RefusedError(
                f"the {what} of the request is not that of the certificate to be renewed (RFC 7030 4.2.2)",
                code=ProblemCode.BAD_IDENTITY,
            )


def _names_of(holder: x509.CertificateSigningRequest | x509.Certificate) -> _Names:
    extensions = [one.value for one in holder.extensions]
    alternatives = [one for one in extensions if isinstance(one, x509.SubjectAlternativeName)]
    return holder.subject, frozenset(name for one in alternatives for name in one)

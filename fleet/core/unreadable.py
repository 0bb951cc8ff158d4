"""All that the X.509 library raises over bytes from outside that it cannot read, at once or lazily.

One list for every reader, so that no reader's is shorter: the library has no common class for them.
"""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

UNREADABLE: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    OverflowError,
    NotImplementedError,
    LookupError,  # such as a TLS feature without a name
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.UnsupportedGeneralNameType,
)

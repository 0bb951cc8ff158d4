"""A certificate chain where OpenSSL can read it: it takes certificates from a path alone. Never a key."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def readable(chain_pem: str) -> Iterator[str]:
    """Give a path that holds the chain; it is gone at the end."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("chain")
        try:
            os.write(descriptor, chain_pem.encode())
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        with tempfile.NamedTemporaryFile(mode="w", suffix=".pem") as file:
            file.write(chain_pem)
            file.flush()
            yield file.name

"""Which reader reads the log of which product."""

from collections.abc import Callable, Mapping

from fleet.core.log_apache import ApacheReader
from fleet.core.log_lines import LONGEST_LINE, Finding, Product, Reader
from fleet.core.log_mosquitto import MosquittoReader
from fleet.core.log_nginx import NginxReader

_READERS: Mapping[Product, Callable[[], Reader]] = {
    Product.MOSQUITTO: MosquittoReader,
    Product.APACHE: ApacheReader,
    Product.NGINX: NginxReader,
}


def reader_of(product: Product) -> Reader:
    """Return a new reader for the log of a product."""
    return _READERS[product]()


def feed(reader: Reader, line: bytes) -> Finding | None:
    """Give a reader the bytes of one line; return the refusal that it completes."""
    return reader.feed(line[:LONGEST_LINE].decode("utf-8", "replace").rstrip("\r\n"))

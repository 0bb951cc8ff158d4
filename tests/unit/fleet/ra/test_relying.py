"""A log in which a line breaks its reader is read to its end all the same."""

import pytest

from fleet.core.log_lines import Product
from fleet.core.log_readers import reader_of
from fleet.ra.status import relying

GOOD = (
    b"2026/11/26 10:00:00 [info] 7#7: *1 client SSL certificate verify error: (10:certificate has expired)"
    b" while reading client request headers, client: 127.0.0.1, server: localhost"
)


def test_a_line_that_breaks_the_reader_is_left_out_and_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    feed = relying.feed

    def breaking(reader: object, line: bytes) -> object:
        if line == b"boom":
            raise RuntimeError("a defect")
        return feed(reader, line)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(relying, "feed", breaking)
    found = relying._findings(reader_of(Product.NGINX), [b"boom", GOOD, b"boom"])
    assert len(found) == 1
    assert "could not be read" in caplog.text

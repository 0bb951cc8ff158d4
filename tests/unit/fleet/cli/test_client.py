"""The client: problem documents become the errors that they were, and addresses cannot be broken out of."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.cli.client import address_of, error_of
from fleet.errors import EXIT_CODES, BadInputError, ExitCode, FleetError, NotFoundError


@pytest.mark.parametrize("code", sorted(set(EXIT_CODES.values())))
def test_an_error_keeps_its_exit_code_over_http(code: ExitCode) -> None:
    document = {"title": "x", "status": 400, "detail": "it went wrong", "hint": "do this", "exit": code}
    error = error_of(400, json.dumps(document).encode())
    assert (EXIT_CODES[type(error)], str(error), error.hint) == (code, "it went wrong", "do this")


def test_a_document_without_an_exit_code_counts_by_its_status() -> None:
    assert isinstance(error_of(400, b'{"detail": "x"}'), BadInputError)
    assert isinstance(error_of(404, b'{"detail": "x"}'), NotFoundError)


@given(st.integers(400, 599), st.binary())
def test_whatever_the_server_answers_is_an_error_of_ours(status: int, body: bytes) -> None:
    assert isinstance(error_of(status, body), FleetError)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_any_json_is_an_error_of_ours(body: object) -> None:
    document = {"detail": body, "hint": body, "exit": body}
    assert isinstance(error_of(400, json.dumps(document).encode()), FleetError)


@given(st.text(min_size=1), st.text(min_size=1))
def test_an_argument_stays_in_its_place(part: str, value: str) -> None:
    try:
        part.encode(), value.encode()
    except UnicodeEncodeError:
        return
    address = urlsplit(address_of(("devices", part), {"prefix": value}))
    assert address.path.count("/") == 4
    assert parse_qs(address.query, keep_blank_values=True) == {"prefix": [value]}

"""By which rules AWS clients register their things: parameters in, a device id and a configuration out.

A template grants nothing: who may register which id, admission says. It only says what must be told, and
which id follows from that, so that a certificate cannot be registered as anything but what it names.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from device_agent.wire.problems import ProblemCode
from fleet.errors import RefusedError

TEMPLATE_NAME = re.compile(r"[0-9A-Za-z_-]{1,36}", re.ASCII)
"""As at AWS."""
PARAMETER_NAME = re.compile(r"[A-Za-z][0-9A-Za-z_]{0,63}", re.ASCII)
LONGEST_VALUE = 256
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """What a client may tell of itself."""

    name: str
    required: bool = True
    pattern: str = ""
    """A regular expression that the whole value must match; empty lets all values pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThingTemplate:
    """Rules for one kind of thing."""

    name: str
    domain: str
    batches: tuple[str, ...] = ()
    """Whose claim certificates may use it; empty: those of all batches of the domain."""
    device_id: str = ""
    """Text with parameters, such as `pump-{SerialNumber}`; empty: the certificate's own name counts."""
    parameters: tuple[Parameter, ...] = ()
    configuration: tuple[tuple[str, str], ...] = ()
    """What a registered thing is answered, beside its name."""

    def is_for(self, domain: str, batch: str) -> bool:
        """Say whether claim certificates of a batch may use it."""
        return self.domain == domain and (not self.batches or batch in self.batches)

    def check(self, given: Mapping[str, str]) -> None:
        """Refuse parameters that are not as they must be.

        Raises:
            RefusedError: with the first one that is not; its value is not repeated.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        if strange := sorted(given.keys() - known.keys()):
            raise _refusal(f"parameter {strange[0][:64]!a} is not of template {self.name}")
        for parameter in self.parameters:
            value = given.get(parameter.name)
            if value is None and parameter.required:
                raise _refusal(f"parameter {parameter.name} is missing")
            if value is not None and not _fits(value, parameter):
                raise _refusal(f"parameter {parameter.name} is not as template {self.name} wants it")

    def id_from(self, given: Mapping[str, str]) -> str:
        """Return the device id that follows from checked parameters, or the empty text."""
        return PLACEHOLDER.sub(lambda found: given[found[1]], self.device_id)


def _fits(value: str, parameter: Parameter) -> bool:
    if not 1 <= len(value) <= LONGEST_VALUE or not value.isprintable():
        return False
    return not parameter.pattern or re.fullmatch(parameter.pattern, value) is not None


def _refusal(message: str) -> RefusedError:
    return RefusedError(message, hint="fleet template show tells what it wants", code=ProblemCode.MALFORMED)

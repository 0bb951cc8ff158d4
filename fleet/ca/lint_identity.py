"""Judges the names in a certificate: whom they speak of, and that they could be nobody else's."""

from cryptography import x509
from cryptography.x509.oid import NameOID

from device_agent.wire.identity import Identity, dns_label, dns_name, parse_device_id, station_dns_name
from device_agent.wire.problems import MalformedMessageError
from fleet.ca.lint_case import Case, value_of
from fleet.core.names import is_free
from fleet.model import Purpose

_NAMED_BY_LABEL = frozenset({Purpose.CLAIM, Purpose.SERVICE, Purpose.OPERATOR, Purpose.STATION})


def device_identity(case: Case) -> str | None:
    """A device is named as its domain, or the station that made it, has it, and as nobody else."""
    if case.template.purpose is not Purpose.DEVICE:
        return None
    name = _common_name(case)
    try:
        identity = Identity(domain=case.domain, device_id=parse_device_id(name))
    except MalformedMessageError as error:
        return f"identity: {error}"
    own = dns_name(identity, fleet=case.fleet)
    if case.station:
        own = station_dns_name(identity, station=case.station, fleet=case.fleet)
    first, *others = _names(case) or [""]
    if first != own:
        return "identity: the first dNSName is not <label>.<domain>.<fleet> of the common name"
    if not all(is_free(other, own=own, fleet=case.fleet) for other in others):
        return "identity: a further dNSName is in the fleet's name space, and could be another's"
    return None


def own_identity(case: Case) -> str | None:
    """Batches, services, operators and stations are named within their purpose."""
    if case.template.purpose not in _NAMED_BY_LABEL:
        return None
    names = _names(case)
    beginning, ending = f"{dns_label(_common_name(case))}.", f".{case.template.purpose}.{case.fleet}"
    if len(names) != 1 or not (names[0].startswith(beginning) and names[0].endswith(ending)):
        return f"identity: dNSName is not <label>...{ending} of the common name"
    return None


def _common_name(case: Case) -> str:
    names = case.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def _names(case: Case) -> list[str]:
    found = value_of(case.certificate, x509.SubjectAlternativeName)
    return [] if found is None else found.get_values_for_type(x509.DNSName)

"""Asks for a code of the operator's second factor beside his certificate, where the configuration wants one.

The owner of the home is not asked: who can open its socket can change the configuration, too.
"""

from collections.abc import Mapping
from types import MappingProxyType

from aiohttp import web

from device_agent.wire.secret import Secret
from fleet.core.second_factor import CodedAct
from fleet.errors import RefusedError
from fleet.ra.people.operators import LOCAL
from fleet.ra.people.second_factor import ShownCode, has_factor, require_code
from fleet.web.api.asked import Asked
from fleet.web.gate import error_response

HEADER = "Fleet-Code"
"""Of a request: the code. Of a refusal, `needed`: the same request with a code may be answered otherwise."""
NEEDED = "needed"

CODED: Mapping[str, CodedAct] = MappingProxyType(
    {
        "revocations": CodedAct.REVOKE,
        "devices/{domain}/{device_id}/retire": CodedAct.RETIRE,
        "proposals/{proposal}/approve": CodedAct.APPROVE,
        "readmissions/vouch": CodedAct.APPROVE,
        "operators": CodedAct.OPERATOR,
        "operators/{name}/remove": CodedAct.OPERATOR,
        "second-factors/{name}/reset": CodedAct.OPERATOR,
        "authorities/{name}/give-up": CodedAct.AUTHORITY,
        "authorities/{name}/retire": CodedAct.AUTHORITY,
        "rollovers/{realm}/publish": CodedAct.AUTHORITY,
        "rollovers/{realm}/switch": CodedAct.AUTHORITY,
        "rollovers/{realm}/retire": CodedAct.AUTHORITY,
        "policy/apply": CodedAct.POLICY,
        "access/apply": CodedAct.POLICY,
        "access/rollback": CodedAct.POLICY,
        "devices/{domain}/{device_id}/decommission": CodedAct.RETIRE,
        "moves/{domain}/{device_id}/replacement": CodedAct.REVOKE,
        "moves/{domain}/{device_id}/replace": CodedAct.REVOKE,
        "claims/batches/revoke": CodedAct.REVOKE,
        "stations/{name}/revoke": CodedAct.REVOKE,
        "services/{name}/revoke": CodedAct.REVOKE,
        "keys/block": CodedAct.REVOKE,
        "readmissions/{readmission}/deny": CodedAct.APPROVE,
        "stations": CodedAct.OPERATOR,
        "services": CodedAct.OPERATOR,
        "services/{name}/renew": CodedAct.OPERATOR,
    }
)
"""Which routes each kind of act has; all of them are POST."""


class CodeNeededError(RefusedError):
    """The act needs a code, and none came with it."""


async def require_factor(asked: Asked, path: str) -> None:
    """Let a request pass that needs no code, or brings a right one; each code lets one pass.

    Raises:
        CodeNeededError: it brings none. RefusedError: it brings none that counts.
    """
    act = CODED.get(path)
    if act is None or act not in asked.context.config.acts.code_for or asked.operator.name == LOCAL:
        return
    name, given = asked.operator.name, asked.request.headers.getall(HEADER, [])
    if not await has_factor(asked.context, name):
        raise RefusedError(
            f"this asks for a code here ({act}), and {name} has no second factor that counts",
            hint="fleet operator totp enroll, then fleet operator totp confirm",
        )
    if len(given) != 1:
        raise CodeNeededError(
            f"this asks for a code of your second factor here ({act})", hint="--code-file FILE, or a terminal"
        )
    shown = ShownCode(operator=name, code=Secret(given[0]), source=asked.request.remote or "")
    await require_code(asked.context, shown)


def needed_response(error: CodeNeededError) -> web.Response:
    """Return the refusal of a request that needs a code."""
    response = error_response(error)
    response.headers[HEADER] = NEEDED
    return response

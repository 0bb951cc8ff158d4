"""How each kind of act is done that a second operator agreed to: one row a kind."""

from collections.abc import Mapping

from fleet.core.proposal import ActKind
from fleet.ra.acts import adding, revoking, suspending
from fleet.ra.acts.deciding import Performer
from fleet.ra.campaigns import orders
from fleet.ra.requests import access_policy, renewing

PERFORMERS: Mapping[ActKind, Performer] = {
    ActKind.OPERATOR: adding.PERFORMER,
    ActKind.REVOKE: revoking.PERFORMER,
    ActKind.SUSPEND: suspending.PERFORMER,
    ActKind.RENEW: renewing.PERFORMER,
    ActKind.ROLLOUT: orders.PERFORMER,
    ActKind.POLICY: access_policy.PERFORMER,
}

"""Access policies, and questions for them, as hypothesis draws them."""

from hypothesis import strategies as st

from fleet.core.policy import Condition, Policy, Rule, Written
from fleet.grants import Effect

GROUPS = ("north", "south")
FACTS = st.fixed_dictionaries(
    {},
    optional={
        "group": st.frozensets(st.sampled_from(GROUPS), min_size=1),
        "tag": st.frozensets(st.sampled_from(["gold", "a/b"]), min_size=1),
    },
)
_PATTERN = st.sampled_from(
    [
        "devices/{domain}/{id}/#",
        "devices/{domain}/{id}/raw/#",
        "devices/{domain}/{id}/raw",
        "devices/{domain}/+/x",
        "devices/prod/d2/x",
        "devices/prod/#",
        "sites/{group}/#",
        "sites/+/x",
        "sites/{tag}",
        "sites/north",
        "sites/#",
    ]
).map(lambda text: Written(text=text, line=1))
_PATTERNS = st.lists(_PATTERN, max_size=3, unique=True).map(tuple)
_WHEN = st.lists(
    st.builds(
        Condition,
        fact=st.just("group"),
        values=st.frozensets(st.sampled_from(GROUPS), min_size=1),
        line=st.just(1),
    ),
    max_size=1,
).map(tuple)
RULE = st.builds(
    Rule,
    effect=st.sampled_from(Effect),
    name=st.sampled_from(["one", "two", "three"]),
    line=st.integers(1, 50),
    when=_WHEN,
    publish=_PATTERNS,
    subscribe=_PATTERNS,
)
POLICY = st.builds(Policy, rules=st.lists(RULE, max_size=4).map(tuple))
TOPIC = st.sampled_from(
    [
        "devices/prod/d1",
        "devices/prod/d1/x",
        "devices/prod/d1/raw",
        "devices/prod/d1/raw/a/b",
        "devices/prod/d2/x",
        "devices/lab/d1/x",
        "sites/north",
        "sites/north/x",
        "sites/south/x/y",
        "sites",
    ]
)
FILTER = st.sampled_from(
    [
        "devices/prod/d1/#",
        "devices/prod/d1/+",
        "devices/prod/d1/raw/#",
        "devices/prod/+/x",
        "devices/#",
        "sites/#",
        "sites/+/x",
        "sites/north/#",
        "sites/+",
        "#",
        "+/north",
        "$share/g/sites/#",
    ]
)

"""Policy documents: what is wrong with one is located, and what one means is its digest."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from interlock import Governor, Tool, Verdict
from interlock.errors import PolicyError
from interlock.policy import Policy
from interlock.policy.document import MAX_CHARACTERS
from tests.malformed_policies import MALFORMED, RULE
from tests.policies import document, documents, judged, rule
from tests.samples import call_of


def test_there_are_enough_malformed_policies() -> None:
    """Broken if the collection shrinks to where it proves nothing."""
    assert len(MALFORMED) >= 300


@pytest.mark.promise(1)
@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_is_refused_and_located(name: str, tmp_path: Path) -> None:
    """Broken if a policy with a mistake in it is used, or its author is not told where the mistake is."""
    text, line, key = MALFORMED[name]
    path = tmp_path / "policy.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PolicyError) as refused:
        Policy.load(path)
    error = refused.value
    assert (str(path), line, key) == (error.path, error.line, error.key)
    where = f"{path}:{line}: " if line else f"{path}: "
    assert str(error).startswith(where + (f"{key}: " if key else ""))
    assert len(str(error)) > len(where) + len(key) + 10
    assert "pydantic" not in str(error)
    assert "\n" not in str(error)


@pytest.mark.promise(1)
@pytest.mark.parametrize("name", ["empty", "verdict unknown", "risk null", "a tab"])
def test_a_governor_is_not_built_on_a_malformed_policy(name: str, tmp_path: Path) -> None:
    """Broken if a host starts with a policy that it cannot apply, or leaves a store behind."""
    path = tmp_path / "policy.yaml"
    path.write_text(MALFORMED[name][0], encoding="utf-8")
    with pytest.raises(PolicyError):
        Governor(f"sqlite:///{tmp_path / 'x.db'}", policy=path)
    assert [file.name for file in tmp_path.iterdir()] == ["policy.yaml"]


def test_data_has_keys_and_no_lines() -> None:
    """Broken if a policy built in Python is refused without saying which key is wrong."""
    with pytest.raises(PolicyError) as refused:
        Policy.build(document(rule("a", "pay", verdict="alow")))
    assert (refused.value.path, refused.value.line) == (None, None)
    assert refused.value.key == "rules.0.verdict"


@pytest.mark.parametrize(
    "data",
    [
        document(rule("a", "pay", when={"argument": "x", "at_most": float("nan")})),
        document(rule("a", "pay", when={"argument": "x", "at_most": 10**5_000})),
        document(evaluators=[{"use": "e", "with": {"x": float("nan")}}]),
        document(evaluators=[{"use": "e", "with": {"x": object()}}]),
        document(evaluators=[{"use": "e", "with": {1: 1}}]),
        document(evaluators=[{"use": "e", "timeout": timedelta(microseconds=1)}]),
        document(rule("a", "pay", verdict="ask", expires=timedelta.max)),
        document(rule("a", "pay", when=object())),
        document({"id": object(), "tools": ["x"], "verdict": "deny"}),
        document(rule("a", "pay", reason="\ud800")),
        document(rule("a", "pay", when={"argument": "x", "equals": "\udfff"})),
    ],
    ids=range(11),
)
def test_data_that_no_file_can_hold_is_refused(data: dict[str, Any]) -> None:
    """Broken if a policy built in Python raises something else, or cannot be stored as it was meant."""
    with pytest.raises(PolicyError):
        Policy.build(data)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path / "none.yaml", "No such file"),
        (lambda path: path, "directory"),
        (lambda path: "a\x00b", "null byte"),
        (lambda path: path / "binary", "not UTF-8"),
        (lambda path: path / ("x" * 300), "too long"),
    ],
    ids=["missing", "directory", "no path", "binary", "long"],
)
def test_what_cannot_be_read_is_said(
    make: Callable[[Path], Any], reason: str, tmp_path: Path
) -> None:
    """Broken if a policy that is not there is anything but a policy error that names the file."""
    (tmp_path / "binary").write_bytes(b"version: 1\nname: \xff")
    path = make(tmp_path)
    with pytest.raises(PolicyError, match=reason) as refused:
        Policy.load(path)
    assert str(path) == refused.value.path


def test_what_is_too_long_is_not_parsed() -> None:
    """Broken if a huge text keeps a host busy before it is refused."""
    with pytest.raises(PolicyError, match="longer than"):
        Policy.parse("#" * (MAX_CHARACTERS + 1))


SAFE = """\
version: 1
name: guarded
rules:
  - id: small
    tools: [pay]
    when:
      all:
        - {argument: amount, at_most: 50}
        - {risk: {at_most: medium}}
        - not: {argument: to, starts_with: evil}
    verdict: allow
  - id: rest
    tools: ["*"]
    verdict: deny
"""


@pytest.mark.promise(1)
def test_no_lost_character_opens_the_gate() -> None:
    """Broken if there is a single slip of the finger that turns a denial into an allow without an error."""
    bad = call_of({"amount": 900, "to": "evil"}, tool=Tool(name="pay"))
    opened = []
    parsed = 0
    for place in range(len(SAFE)):
        for text in (SAFE[:place] + SAFE[place + 1 :], SAFE[:place] + "x" + SAFE[place + 1 :]):
            try:
                policy = Policy.parse(text)
            except PolicyError:
                continue
            parsed += 1
            if policy.opinion(bad).verdict is Verdict.ALLOW:
                opened.append(text)
    assert opened == []
    assert 50 < parsed < 600


@given(st.text(max_size=60) | st.text("versionam1: p\n-[]{}&*!|>'\"#?,%@`rulestd", max_size=80))
def test_any_text_is_a_policy_or_an_error(text: str) -> None:
    """Broken if some text raises anything but PolicyError."""
    try:
        Policy.parse(text)
    except PolicyError as error:
        assert error.path is None  # noqa: PT017 - either is right


def shuffled(data: Any, by: random.Random) -> Any:
    """The same with the keys of every mapping in another order."""
    match data:
        case dict():
            items = list(data.items())
            by.shuffle(items)
            return {key: shuffled(value, by) for key, value in items}
        case list():
            return [shuffled(item, by) for item in data]
        case timedelta():
            return f"{data // timedelta(seconds=1)}s"
        case _:
            return data


@settings(max_examples=40)
@given(documents(), st.randoms(use_true_random=False))
def test_the_digest_is_that_of_what_it_says(data: dict[str, Any], by: random.Random) -> None:
    """Broken if layout, order of keys or the way through JSON or YAML changes the digest, or loses a meaning."""
    policy = Policy.build(data)
    other = shuffled(data, by)
    block, flow = StringIO(), StringIO()
    YAML(typ="safe").dump(other, block)
    writer = YAML(typ="rt")
    writer.default_flow_style = True
    writer.dump(other, flow)
    texts = [json.dumps(other), json.dumps(other, indent=3), policy.text]
    texts += [block.getvalue(), f"# a comment\n\n{flow.getvalue()}\n# another"]
    assert [Policy.parse(text).digest for text in texts] == [policy.digest] * len(texts)


SAME = [
    "version: 1\nname: p\nrules:\n- {id: a, tools: [pay], verdict: allow}\n",
    '{"rules": [{"verdict": "allow", "tools": ["pay"], "id": "a"}], "name": "p", "version": 1}',
    "\ufeffname: 'p' # x\nversion: 1\ndefault: deny\nevaluators: []\nrules:\n  -\n    id: \"a\"\n"
    "    tools:\n      - pay\n    verdict:   allow\n    suggest: []\n".replace(
        "    suggest: []\n", ""
    ),
    "version: 0x1\r\nname: p\r\nrules:\r\n- {id: a, tools: [&p pay], verdict: allow}\r\n",
    "version: 1\nname: p\nrules:\n- &x {id: a, verdict: allow, tools: [pay]}\n",
]


def test_layout_is_no_meaning() -> None:
    """Broken if a reformatted policy counts as another one."""
    assert len({Policy.parse(text).digest for text in SAME}) == 1
    given_ = [{"a": 1, "b": {"c": [1], "d": 2}}, {"b": {"d": 2, "c": [1]}, "a": 1}]
    told = [document(evaluators=[{"use": "e", "with": configuration}]) for configuration in given_]
    assert len({Policy.build(data).digest for data in told}) == 1


def test_json_may_write_a_character_in_two_halves() -> None:
    """Broken if JSON from a writer that escapes what is not ASCII, as most do, cannot be read as it was meant."""
    data = document(rule("a", "pay", reason="\U0001f600 \u00e9"))
    assert "\\ud83d\\ude00" in json.dumps(data)
    assert Policy.build(data).digest == Policy.parse(json.dumps(data)).digest
    assert judged(data).reason == "\U0001f600 \u00e9"


WHEN: dict[str, Any] = {"argument": "x", "equals": 1}
BASE = rule("a", "pay", verdict="ask", when=WHEN, approvers=["ops"], expires="1h")
MEANINGS: list[dict[str, Any]] = [
    document(BASE),
    document(BASE, name="q"),
    document(BASE, default="ask"),
    document(BASE, default="allow"),
    document(),
    document(BASE, rule("b", "pay")),
    document(rule("b", "pay"), BASE),
    *(document({**BASE, "tools": tools}) for tools in (["Pay"], ["pay", "x"], ["x", "pay"], ["*"])),
    *(document({**BASE, "approvers": who}) for who in ([], ["ops", "legal"], ["Ops"])),
    *(document({**BASE, "expires": much}) for much in ("59m", "2h", "1ms", "500ms", "999ms", "1s")),
    document({**BASE, "id": "b"}),
    document({**BASE, "reason": "x"}),
    *(
        document({**BASE, "when": when})
        for when in (
            {"argument": "y", "equals": 1},
            {"argument": ["x"], "equals": 1},
            *({"argument": "x", "equals": value} for value in (2, "1", True, False, None, "", 0)),
            *({"argument": "x", "contains": value} for value in (None, 1, "")),
            {"argument": "x", "equals": None, "at_most": 1},
            {"argument": "x", "at_most": 1},
            {"argument": "x", "at_most": 10**20},
            {"argument": "x", "at_most": 10**20 + 1},
            {"argument": "x", "at_most": 0.1},
            {"argument": "x", "at_most": 0.10000000000000002},
            {"argument": "x", "in": [1]},
            {"argument": "x", "in": [1, None]},
            {"argument": "x", "in": [1, 2]},
            {"not": WHEN},
            {"all": [WHEN]},
            {"any": [WHEN]},
            {"any": [WHEN, WHEN]},
            {"risk": {"at_most": "low"}},
            {"risk": {"equals": "low"}},
            {"cost": {"equals": None}},
            {"cost": {"contains": None}},
        )
    ),
    *(
        document(BASE, evaluators=[evaluator])
        for evaluator in (
            {"use": "e"},
            {"use": "f"},
            {"use": "e", "tools": ["pay"]},
            {"use": "e", "timeout": "1s"},
            {"use": "e", "timeout": "1500ms"},
            {"use": "e", "timeout": "1600ms"},
            {"use": "e", "with": {"a": 1}},
            {"use": "e", "with": {"a": None}},
            {"use": "e", "with": {"a": []}},
            {"use": "e", "with": {"a": "1"}},
        )
    ),
]


def test_the_digest_changes_with_the_meaning() -> None:
    """Broken if two policies that judge differently have one digest: the record would name the wrong one."""
    found: dict[str, dict[str, Any]] = {}
    for data in MEANINGS:
        policy = Policy.build(data)
        assert policy.digest not in found, (data, found.get(policy.digest))
        found[policy.digest] = data
        assert Policy.parse(policy.text).digest == policy.digest


def test_the_order_of_a_set_is_no_meaning() -> None:
    """Broken if a policy built in Python has another digest in each process."""
    tools = {f"tool-{number}" for number in range(20)}
    data = document({**rule("a"), "tools": tools})
    assert Policy.build(data).digest == Policy.build(document(rule("a", *sorted(tools)))).digest


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("1ms", timedelta(milliseconds=1)),
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("1h", timedelta(hours=1)),
        ("7d", timedelta(days=7)),
    ],
)
def test_durations_have_units(text: str, duration: timedelta) -> None:
    """Broken if a time limit is read in another unit than it is written in."""
    assert judged(document(rule("q", verdict="ask", expires=text))).expires == duration


def test_a_policy_is_what_was_parsed() -> None:
    """Broken if the sample that the malformed ones are made from is itself malformed."""
    policy = Policy.parse(RULE, path="x.yaml")
    assert (policy.name, repr(policy)) == ("p", f"<Policy 'p' {policy.digest[:12]}, 1 rules>")
    assert policy.opinion(call_of(tool=Tool(name="pay"))).verdict is Verdict.ALLOW

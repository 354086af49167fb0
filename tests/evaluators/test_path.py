"""The evaluator `path`: what passes leads into a granted directory, whoever reads it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from interlock import Denied, Governor, Tool, Verdict
from interlock.evaluators.paths import PathConfig, PathEvaluator
from tests.callers import Caller
from tests.judges import naming
from tests.path_tricks import LINKS, ORDINARY, build, escaping
from tests.samples import call_of

Make = Callable[..., Governor]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The granted directory, with links that lead out of it."""
    return build(tmp_path.resolve())


def objection(
    value: Any, root: Path | str, *, tool: Tool | None = None, **config: Any
) -> str | None:
    """What the evaluator says against a call with the argument `file`."""
    judge = PathEvaluator(PathConfig(**{"argument": "file", "roots": (str(root),), **config}))
    opinion = judge.evaluate(call_of({"file": value}, tool=tool))
    assert opinion is None or opinion.verdict is Verdict.DENY
    return None if opinion is None else opinion.reason


def reached(text: str, base: Path) -> Path | None:
    """Where `open` would get, asked of the operating system; None if nowhere."""
    try:
        found = os.path.realpath(base / text)
        if not Path(found).exists():
            # What is made there is made in the directory that is there.
            Path(found).parent.stat()
    except (OSError, ValueError):
        return None
    return Path(found)


@pytest.mark.promise(1)
@pytest.mark.parametrize("based", [False, True])
def test_nothing_escapes(based: bool, root: Path) -> None:
    """Broken if any of thousands of strings that is let through reaches what is outside."""
    base = {"base": str(root)} if based else {}
    judge = PathEvaluator(PathConfig(argument="file", roots=(str(root),), **base))
    corpus = list(dict.fromkeys(escaping(root)))
    assert len(corpus) >= 6_000
    passed = [text for text in corpus if judge.evaluate(call_of({"file": text})) is None]
    found = {text: reached(text, root) for text in passed}
    escaped = {t: at for t, at in found.items() if at and at != root and root not in at.parents}
    assert escaped == {}
    # The oracle has seen escapes among those refused; else it would prove nothing.
    refused = [reached(text, root) for text in set(corpus) - set(passed)]
    assert len([at for at in refused if at and at != root and root not in at.parents]) >= 500


@pytest.mark.promise(1)
def test_no_secret_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken if `open`, given what was let through, reads the secret."""
    monkeypatch.chdir(root)
    judge = PathEvaluator(PathConfig(argument="file", roots=(str(root),), base=str(root)))
    read = {False: 0, True: 0}
    for text in dict.fromkeys(escaping(root)):
        is_let = judge.evaluate(call_of({"file": text})) is None
        try:
            content = Path(text).read_text()
        except (OSError, ValueError):
            continue
        read[is_let] += content == "planted"
    assert read[True] == 0
    assert read[False] >= 30


def test_ordinary_names_pass(root: Path) -> None:
    """Broken if the price of the above is that ordinary files are refused: more than 1 in 100."""
    assert len(set(ORDINARY)) == 1_000
    for form in ("", f"{root}/"):
        said = [objection(form + name, root, base=str(root)) for name in ORDINARY]
        assert said.count(None) > 990


@pytest.mark.promise(1)
@pytest.mark.parametrize("link", LINKS)
def test_a_link_is_followed(link: str, root: Path) -> None:
    """Broken if a symbolic link that leads out, nowhere granted, or in a circle passes."""
    assert objection(f"{root}/{link}", root) is not None
    assert objection(f"{root}/{link}/secret", root) is not None


def test_a_link_that_stays_inside_passes(root: Path) -> None:
    """Broken if links are refused although they lead to what is granted."""
    for name in ("fine/note.txt", "a/fine.txt", "fine", "fine/new.txt", "new/er/file.txt"):
        assert objection(f"{root}/{name}", root) is None
    assert objection(f"{root}/out/secret", root, resolve=False) is None
    assert (
        objection(f"{root}/out/secret", root, roots=(str(root), str(root.parent / "outside")))
        is None
    )


@pytest.mark.promise(1)
def test_a_root_may_be_a_link(root: Path, tmp_path: Path) -> None:
    """Broken if a root that is itself reached by a link grants nothing, or something else."""
    alias = tmp_path.resolve() / "alias"
    alias.symlink_to(root)
    assert objection(f"{alias}/note.txt", alias) is None
    assert objection(f"{alias}/out/secret", alias) is not None
    assert objection(f"{root}/note.txt", alias) is not None
    broken = tmp_path.resolve() / "broken"
    broken.symlink_to(broken)
    assert objection(f"{broken}/note.txt", broken) is not None
    assert objection(f"{root}/note.txt", root, roots=(str(broken), str(root))) is None


@pytest.mark.promise(1)
def test_what_is_no_file_is_refused(root: Path) -> None:
    """Broken if a pipe, which hangs who opens it, or what lies below a file, passes."""
    os.mkfifo(root / "pipe")
    assert "neither a file nor a directory" in (objection(f"{root}/pipe", root) or "")
    assert "cannot be followed" in (objection(f"{root}/note.txt/x", root) or "")
    assert objection(f"{root}/a", root) is None


@pytest.mark.promise(1)
@pytest.mark.parametrize("value", [None, 5, b"/x", ["/x"], Path("/x"), {"a": 1}, ...], ids=repr)
def test_what_is_no_text_is_denied(value: Any, root: Path) -> None:
    """Broken if what cannot be judged passes."""
    assert "is missing or no text" in (objection(value, root) or "")
    assert "is missing or no text" in (objection("x", root, argument="other") or "")


AMBIGUOUS = {
    "it is empty": [""],
    "it has '..'": ["..", "../x", "a/../b", "a/.."],
    "two slashes": ["a//b", "a//"],
    "a backslash": ["a\\b"],
    "a colon": ["C:x", "a:b", "file:x"],
    "a percent sign": ["%2e%2e", "100%"],
    "a dollar sign": ["$HOME", "a${B}"],
    "a backquote": ["`id`"],
    "a wildcard": ["a*", "a?", "a|b", "<a", "a>", 'a"'],
    "looks like a slash": ["a\u2215b", "a\u2044b", "a\u29f8b"],
    "is not seen": [
        "a\x00",
        "a\nb",
        "a\u200bb",
        "a\u202eb",
        "a\ue000",
        "a\u0378",
        "a\ud800",
        "a\u2028b",
        "\ufe0f",
    ],
    "composed form": ["e\u0301", "\u212b", "a\u0340"],
    "with a meaning in paths": [
        "\uff0fa",
        "\u2025",
        "\uff0e\uff0e",
        "a\uff1ab",
        "\uff05",
        "\uff5ea",
        "\u2026",
    ],
    "combining marks": ["a" + "\u0300" * 31],
    "begins or ends with a blank": [" a", "a ", "a/ b", "a /b", "a.", "...", "a\u00a0", "b/c./d"],
    "stands for another": ["~", "~root/x", "a/~b", "PROGRA~1"],
    "that of a device": ["con", "NUL.txt", "a/Aux.tar.gz", "com1", "LPT\u00b9", "prn .x"],
    "too long": ["x" * 256, "\u00e9" * 128, "x/" * 2_100, "\u00e9/" * 1_500],
    "begins like an option": ["-rf", "--x", "\uff0drf"],
}


@pytest.mark.promise(1)
@pytest.mark.parametrize("reason", AMBIGUOUS)
def test_what_is_ambiguous_is_refused(reason: str) -> None:
    """Broken if a path passes that a shell, Windows, a URL or a normal form reads differently."""
    for text in AMBIGUOUS[reason]:
        assert reason in (objection(text, "/srv/x", base="/srv/x", resolve=False) or ""), ascii(
            text
        )
    assert objection("a/b.c", "/srv/x", base="/srv/x", resolve=False) is None


@pytest.mark.promise(1)
def test_relative_paths_need_a_base(root: Path) -> None:
    """Broken if a relative path passes though nobody knows where it is read."""
    assert "relative" in (objection("note.txt", root) or "")
    assert objection("note.txt", root, base=f"{root}/a") is None
    assert objection("out/secret", root, base=f"{root}/a") is not None
    assert objection("./b/./x", root, base=f"{root}/a/") is None
    assert "option" in (objection("-rf", root, base=str(root)) or "")


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    ("declared", "granted"),
    [
        ((), False),
        (("read",), True),
        (("read", "write"), True),
        (("read", "run"), False),
        (("run",), False),
    ],
)
def test_capabilities_must_be_granted_too(
    declared: tuple[str, ...], granted: bool, root: Path
) -> None:
    """Broken if a tool may do at a granted path what is not granted, or what it does not say."""
    tool = Tool(name="t", capabilities=declared)
    path = f"{root}/note.txt"
    assert (objection(path, root, tool=tool, capabilities=["read", "write"]) is None) == granted
    assert objection(path, root, tool=tool) is None


@pytest.mark.promise(9)
def test_the_reason_does_not_quote_the_value(root: Path) -> None:
    """Broken if a refusal, which is logged and shown to models, repeats the argument."""
    for text in (
        "planted",
        "/planted",
        f"{root}/../planted",
        f"{root}/out/planted",
        "planted\x00",
        "planted/" * 999,
    ):
        said = objection(text, root)
        assert said is not None
        assert "planted" not in said
        assert str(root) not in said


@pytest.mark.parametrize(
    "config",
    [
        {"roots": []},
        {"roots": ["/"]},
        {"roots": ["//"]},
        {"roots": ["relative"]},
        {"roots": ["/srv/../etc"]},
        {"roots": ["~/x"]},
        {"roots": ["C:\\x"]},
        {"roots": [""]},
        {"roots": "/srv"},
        {"roots": ["/srv"], "base": "/etc"},
        {"roots": ["/srv"], "base": "srv"},
        {"roots": ["/srv"], "capabilities": []},
        {"roots": ["/srv"], "capabilities": [""]},
        {"roots": ["/srv"], "resolve": "perhaps"},
        {"roots": ["/srv"], "argument": ""},
        {"roots": ["/srv"], "rots": 1},
        {},
    ],
    ids=str,
)
def test_a_wrong_configuration_is_refused(config: dict[str, Any]) -> None:
    """Broken if a grant that grants nothing, everything or something unclear is taken."""
    with pytest.raises(ValidationError):
        PathConfig(**{"argument": "file", **config})


@pytest.mark.promise(1)
@pytest.mark.parametrize("kind", ["sync", "async", "nested"])
def test_a_policy_can_use_it(kind: str, governor: Make, root: Path) -> None:
    """Broken if the evaluator is not installed under its name, or its no is not heard."""
    policy = naming("path")
    policy["evaluators"][0]["with"] = {"argument": "to", "roots": [str(root)]}
    caller = Caller(kind)
    made = governor(policy, url="sqlite://")
    assert caller(made, to=f"{root}/note.txt")[0] == "receipt"
    assert type(caller(made, to=f"{root}/out/secret")[0]) is Denied
    assert caller.ran == [f"{root}/note.txt"]

"""Errors: the tree that is drawn, data in attributes that survives a process, and one sentence with the remedy."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

import pytest

from interlock import Verdict, errors
from interlock._budget import Account, Amounts, Limits, WindowKey
from interlock._forms import Opaque
from interlock._halt import Halt, HaltTarget
from interlock._lease import Holder, LeaseKey, Occupancy
from interlock._verdict import combine
from interlock.errors import InterlockError
from tests.samples import call_of, opinion, ticket_for
from tests.values import Order

CALL = call_of({"order": Order("o-1", [1]), "path": PurePosixPath("a"), "thing": object()})
REFUSED = combine(
    [opinion(Verdict.STEER, "a wire", guidance="Ask.", suggestions=("pay",), expires=timedelta(1))]
)
ACCOUNT = Account(
    key=WindowKey("b", '["acme"]', 0),
    ends_at=datetime(2026, 1, 1, tzinfo=UTC),
    limits=Limits(cost=1),
    spent=Amounts(2, 3, 4),
)
HALT = Halt(
    id="h-1",
    target=HaltTarget.of(org="acme"),
    reason="drill",
    by="ann",
    engaged_at=datetime(2026, 1, 1, tzinfo=UTC),
)

OCCUPANCY = Occupancy(
    key=LeaseKey("one", "0" * 64),
    token=3,
    holders=(
        Holder(
            token=3,
            session_id="s",
            call_id="c",
            tool="deploy",
            expires_at=datetime(2026, 1, 1, tzinfo=UTC),
        ),
    ),
)

MADE: dict[type[InterlockError], Callable[[], InterlockError]] = {
    errors.Denied: lambda: errors.Denied("no", decision=REFUSED, call=CALL),
    errors.Steered: lambda: errors.Steered("no", decision=REFUSED, call=CALL),
    errors.ApprovalNeeded: lambda: errors.ApprovalNeeded(
        "ask", decision=REFUSED, call=CALL, ticket=ticket_for(CALL)
    ),
    errors.HaltedError: lambda: errors.HaltedError(
        "stopped", decision=REFUSED, call=CALL, halt=HALT, ran=True
    ),
    errors.InProgress: lambda: errors.InProgress("runs", decision=REFUSED, call=CALL, first="c-1"),
    errors.KeyReused: lambda: errors.KeyReused("other", decision=REFUSED, call=CALL, first="c-1"),
    errors.AlreadyDone: lambda: errors.AlreadyDone("done", decision=REFUSED, call=CALL, first="c"),
    errors.LeaseTaken: lambda: errors.LeaseTaken(
        "taken", decision=REFUSED, call=CALL, leases=(OCCUPANCY,)
    ),
    errors.LeaseLost: lambda: errors.LeaseLost("lost", decision=REFUSED, call=CALL, lease="one"),
    errors.BudgetExceeded: lambda: errors.BudgetExceeded(
        "spent", decision=REFUSED, call=CALL, budgets=(ACCOUNT,)
    ),
    errors.StoreUnavailable: lambda: errors.StoreUnavailable("down"),
    errors.EvaluatorFailed: lambda: errors.EvaluatorFailed("broke", decision=REFUSED, call=CALL),
    errors.NewerRelease: lambda: errors.NewerRelease("upgrade", kind="lease_taken", version=2),
    errors.NotConfigured: lambda: errors.NotConfigured("no governor"),
    errors.PolicyError: lambda: errors.PolicyError(
        "unknown key", path="policy.yaml", line=7, key="rules.0.tool"
    ),
    errors.PluginError: lambda: errors.PluginError("missing", plugin="x", distribution="x 1.5"),
    errors.Conflict: lambda: errors.Conflict("answered"),
    errors.SessionTaken: lambda: errors.SessionTaken("taken", session_id="s-1", status="open"),
}


def kinds(base: type[InterlockError] = InterlockError) -> list[type[InterlockError]]:
    """Every kind of error that is Interlock's own, *base* first."""
    return [base, *(each for kind in below(base) for each in kinds(kind))]


def below(base: type[InterlockError]) -> list[type[InterlockError]]:
    """Those of ours that are first of all a *base*."""
    own = [kind for kind in base.__subclasses__() if kind.__module__ == errors.__name__]
    return [kind for kind in own if kind.__bases__[0] is base]


LEAVES = [kind for kind in kinds() if not below(kind)]


def test_the_tree_is_the_one_that_is_drawn() -> None:
    """Broken if the tree in the module's docstring, which users catch by, is not the tree of the classes."""
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"    ((?:[│ ]   )*)(?:[├└]── )?([A-Z]\w+)(?: |$)", line):
            depth = len(found[1]) // 4 + ("──" in line)
            above[depth:] = [found[2]]
            if depth:
                drawn[found[2]] = above[depth - 1]
    tree = {kind.__name__: kind.__bases__[0].__name__ for kind in kinds()[1:]}
    assert drawn == tree


def test_every_leaf_is_made_below() -> None:
    """Broken if an error is added and not tested."""
    assert {*LEAVES, errors.Conflict} == set(MADE)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", MADE, ids=lambda kind: kind.__name__)
def test_every_error_survives_another_process(kind: type[InterlockError], protocol: int) -> None:
    """Broken if an error raised in a worker arrives without its data, or as something else."""
    error = MADE[kind]()
    for other in (
        pickle.loads(pickle.dumps(error, protocol)),  # noqa: S301 - our own
        copy.copy(error),
        copy.deepcopy(error),
    ):
        assert (type(error), str(error), error.args) == (type(other), str(other), other.args)
        assert vars(error) == vars(other)


def test_the_arguments_that_were_judged_travel_along() -> None:
    """Broken if the arguments that were judged do not travel with the error."""
    error: Any = pickle.loads(pickle.dumps(MADE[errors.Denied]()))  # noqa: S301 - our own
    assert error.call.arguments["order"] == {"id": "o-1", "lines": (1,)}
    assert error.call.arguments["thing"] == Opaque("builtins.object")
    assert error.decision == REFUSED


def test_every_error_can_be_caught_as_what_it_is() -> None:
    """Broken if `except ValueError` around a policy, or `except ImportError` around a plugin, stops working."""
    assert issubclass(errors.PolicyError, ValueError)
    assert issubclass(errors.PluginError, ImportError)
    for kind in kinds():
        assert issubclass(kind, InterlockError)
        assert issubclass(kind, Exception)
        assert inspect.getdoc(kind)
        assert kind.__doc__ is not InterlockError.__doc__ or kind is InterlockError


def test_data_is_in_attributes() -> None:
    """Broken if a handler has to read a message."""
    steered = MADE[errors.Steered]()
    assert isinstance(steered, errors.Steered)
    assert (steered.guidance, steered.suggestions) == ("Ask.", ("pay",))
    spent = MADE[errors.BudgetExceeded]()
    assert isinstance(spent, errors.BudgetExceeded)
    assert spent.budgets == (ACCOUNT,)
    policy = MADE[errors.PolicyError]()
    assert isinstance(policy, errors.PolicyError)
    assert (policy.path, policy.line, policy.key) == ("policy.yaml", 7, "rules.0.tool")
    assert str(policy) == "policy.yaml:7: rules.0.tool: unknown key"
    assert str(errors.PolicyError("empty")) == "policy: empty"
    plugin = MADE[errors.PluginError]()
    assert isinstance(plugin, errors.PluginError)
    assert (plugin.plugin, plugin.distribution) == ("x", "x 1.5")

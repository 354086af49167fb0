"""
Canaries: where the canary of an adapter sings, apart from the host, and what is said when it is dead.

An adapter stands in places of its framework that a release may move. Its canary makes a call that must be refused by
the framework's real path, and so finds what would run ungoverned before anything is served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from opentelemetry import trace

from interlock._governor import Governor
from interlock.errors import PluginError

# A parent that is not sampled, so that the host's traces show nothing of this.
_UNSEEN = trace.NonRecordingSpan(
    trace.SpanContext(1, 1, is_remote=False, trace_flags=trace.TraceFlags(0))
)


class DeadCanaryError(Exception):
    """What must be refused is not, or what must run does not; says which, as the end of a sentence."""


def sing(framework: str, song: Callable[[], object]) -> None:
    """
    Run *song*, which makes calls that must be refused and calls that must run, in a thread of its own.

    So it may be called where an event loop runs, and no session of the host's is around it.

    Args:
        framework: The distribution of the framework, such as `openai-agents`; the adapter's is `interlock-` and this.
        song: Raises `DeadCanaryError` where something is wrong. Whatever else it raises means that no call can be made.

    Raises:
        PluginError: the canary is dead.
    """
    try:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(song).result()
    except DeadCanaryError as error:
        raise _dead(framework, str(error)) from None
    except Exception as error:
        said = str(error).partition("\n")[0]
        raise _dead(framework, f"no call can be made: {type(error).__name__}: {said}") from error


@contextmanager
def cage(
    rules: Iterable[Mapping[str, Any]], *, plugins: Iterable[object] = ()
) -> Iterator[Governor]:
    """
    Give a governor apart from the host's: books in memory, no spans, and all allowed but what *rules* deny.

    Args:
        rules: As in a policy.
        plugins: As of a governor.
    """
    policy = {"version": 1, "name": "canary", "default": "allow", "rules": list(rules)}
    quiet = trace.NoOpTracerProvider()
    with (
        trace.use_span(_UNSEEN),
        Governor("sqlite://", policy=policy, plugins=plugins, tracer_provider=quiet) as governor,
    ):
        yield governor


def _dead(framework: str, why: str) -> PluginError:
    adapter = f"interlock-{framework}"
    return PluginError(
        f"the canary is dead: with {framework} {version(framework)}, {why}. Start nothing that relies on "
        f"{adapter} {version(adapter)}; install a release of {framework} that it is tested with.",
        plugin=framework,
        distribution=f"{adapter} {version(adapter)}",
    )

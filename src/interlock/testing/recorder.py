"""A plugin that keeps what was recorded."""

from __future__ import annotations

from interlock.events import Event, NewerEvent, Recorded
from interlock.hookspecs import hookimpl


class Recorder:
    """A plugin that keeps every recorded event, in the order in which it saw them. Pass it in `Governor(plugins=…)`."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.recorded: list[Recorded] = []

    @hookimpl
    def interlock_recorded(self, recorded: Recorded) -> None:
        """Keep *recorded*."""
        self.recorded.append(recorded)

    @property
    def events(self) -> list[Event]:
        """The events themselves, decoded."""
        decoded = (recorded.event for recorded in self.recorded)
        return [event for event in decoded if not isinstance(event, NewerEvent)]

"""The evaluator `max-length`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from interlock import Call, Opinion, Verdict


class MaxLengthConfig(BaseModel):
    """
    What the evaluator `max-length` is told.

    Attributes:
        argument: The name of a text argument; it must be there.
        characters: How many it may have.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    argument: str = Field(min_length=1)
    characters: int = Field(gt=0)


class MaxLength:
    """Denies a call whose argument is too long, or no text."""

    Config = MaxLengthConfig

    def __init__(self, config: MaxLengthConfig) -> None:
        """Keep the configuration; whatever is expensive is done here, once."""
        self._config = config

    def evaluate(self, call: Call) -> Opinion | None:
        """Return DENY or no view."""
        value = call.arguments.get(self._config.argument)
        if isinstance(value, str) and len(value) <= self._config.characters:
            return None
        return Opinion(
            verdict=Verdict.DENY,
            # It names the argument, and never holds its value.
            reason=(
                f"argument {self._config.argument!r} is no text "
                f"of at most {self._config.characters} characters"
            ),
            author="max-length",  # Interlock puts its own name for it here, and the distribution
        )

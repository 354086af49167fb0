"""Secrets kept out of calls, results and records; the doors are the entry points that pyproject.toml names."""

from __future__ import annotations

from interlock_secrets.detector import MAX_BYTES
from interlock_secrets.evaluators import (
    SecretsConfig,
    SecretsEvaluator,
    SecretsInResults,
    SecretsInResultsConfig,
)

__all__ = [
    "MAX_BYTES",
    "SecretsConfig",
    "SecretsEvaluator",
    "SecretsInResults",
    "SecretsInResultsConfig",
]

"""The policy language: what a platform team writes, parsed once, frozen, and identified by its digest."""

from interlock.policy.compile import Policy
from interlock.policy.document import PolicyDocument
from interlock.policy.file import PolicyFile

__all__ = ["Policy", "PolicyDocument", "PolicyFile"]

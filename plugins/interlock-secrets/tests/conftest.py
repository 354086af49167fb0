"""Secrets for these tests: made up anew each time, of the right form and worth nothing."""

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Callable

import pytest

LETTERS = string.ascii_letters + string.digits


class Maker:
    """Makes secrets of each kind, from the seed of the test run."""

    def __init__(self) -> None:
        """Begin with the seed that pytest-randomly has set."""
        self._random = random.Random(random.random())

    def word(self, length: int, letters: str = LETTERS) -> str:
        """Return that many letters, among them two digits at least."""
        while True:
            found = "".join(self._random.choices(letters, k=length))
            if sum(letter.isdigit() for letter in found) > 1 and len(set(found)) > length // 3 - 1:
                return found

    def __call__(self, kind: str = "github-pat") -> str:
        """Return a secret of that kind, all of which is to be masked."""
        upper = string.ascii_uppercase + "234567"
        made: dict[str, Callable[[], str]] = {
            "github-pat": lambda: "ghp_" + self.word(36),
            "aws-access-key-id": lambda: "AKIA" + self.word(16, upper),
            "stripe-access-token": lambda: "sk_live_" + self.word(24),
            "slack-bot-token": lambda: (
                f"xoxb-{self.word(12, string.digits)}-{self.word(12, string.digits)}-{self.word(24)}"
            ),
            "openai-api-key": lambda: "sk-" + self.word(20) + "T3BlbkFJ" + self.word(20),
            "anthropic-api-key": lambda: "sk-ant-api03-" + self.word(93) + "AA",
            "gcp-api-key": lambda: "AIza" + self.word(35),
            "gitlab-pat": lambda: "glpat-" + self.word(20),
            "sendgrid": lambda: f"SG.{self.word(22)}.{self.word(43)}",
            "npmjsaccesstoken": lambda: "npm_" + self.word(36),
            "pypi-upload-token": lambda: "pypi-AgEIcHlwaS5vcmc" + self.word(80),
            "huggingface-access-token": lambda: (
                "hf_" + "".join(self._random.sample(string.ascii_letters, 34))
            ),
            "telegram-bot-token": lambda: f"1{self.word(8, string.digits)}:AA{self.word(33)}",
            "jwt": lambda: f"{_part({'alg': 'HS256'})}.{_part({'sub': 'ann'})}.{self.word(43)}",
            "private-key": lambda: self._pem("RSA PRIVATE KEY"),
            "private-key-part": lambda: self._pem("EC PRIVATE KEY").rsplit("\n", 2)[0],
            "putty-key": lambda: (
                "PuTTY-User-Key-File-2: ssh-rsa\nEncryption: none\nPrivate-Lines: 2\n"
                f"{self.word(64)}\n{self.word(64)}\nPrivate-MAC: {self.word(40, '0123456789abcdef')}"
            ),
        }
        return made[kind]()

    def _pem(self, name: str) -> str:
        lines = "\n".join(self.word(64) for _ in range(6))
        return f"-----BEGIN {name}-----\n{lines}\n{self.word(20)}==\n-----END {name}-----"


def _part(data: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")


@pytest.fixture
def make() -> Maker:
    """Make secrets."""
    return Maker()

"""Patterns that take a backtracking engine for ever, each with the text that makes it so."""

from __future__ import annotations

MILLION = 1_000_000

CATASTROPHIC: list[tuple[str, str]] = [
    (r"(a+)+$", "a"),
    (r"(a*)*$", "a"),
    (r"(a|a)*$", "a"),
    (r"(a|aa)+$", "a"),
    (r"(.*)*x$", "a"),
    (r"(.*a){20}", "a"),
    (r"([a-zA-Z]+)*$", "a"),
    (r"(x+x+)+y", "x"),
    (r"(a?){30}a{30}", "a"),
    (r"(\w+\s?)*$", "a"),
    (r"(\s*\w+\s*)*:", "a "),
    (r"\s+$", " "),
    (r"(\d+)*\.", "1"),
    (r"^(([a-z])+.)+[A-Z]([a-z])+$", "a"),  # OWASP's Java class name
    (
        r"^([a-zA-Z0-9])(([\-.]|[_]+)?([a-zA-Z0-9]+))*(@){1}[a-z0-9]+[.]{1}[a-z]{2,3}$",
        "a",
    ),  # OWASP's e-mail
    (
        r"(?:(?:\"|'|\]|\}|\\|\d|(?:nan|infinity|true|false|null|undefined))|.*(?:.*=.*))",
        "x=",
    ),  # Cloudflare, 2019
    (r".*.*=.*", "x"),
    (r"^[\s\u200c]+|[\s\u200c]+$".replace(r"\u200c", "\u200c"), " "),  # Stack Overflow, 2016
    (r"(?i)(<script\b[^>]*>(.*?)</script>)+", "<script>"),
    (r"<!--(.|\s)*?-->", "<!-- "),
    (r"^(?:[^\"\\]|\\.)*\"$", "\\\\"),
    (r"((a{1,10}){1,5})+b", "a"),
    (r"^((ab)*)+$", "ab"),
    (r"(0|1|2|3|4|5|6|7|8|9|[0-9]+)+z", "1"),
    (r"(b|a+)*c", "a"),
    (r"([^/]*/)*[^/]*\.php", "a/"),
    (r"^(\(.*\)|[^()])*$", "("),
    (r"(([\-.]|[_]+)?([a-z0-9]+))*@", "a-"),
    (r"(\r\n|\n|\r|.)*\z.", "\r\n"),
    (r"^(?:a|ab|b)*?c$", "ab"),
    (r"(?:%[0-9a-f]{2}|[a-z%])*!", "%61"),
    (r"\A(\S+\.)+\S+@\z", "a."),
]
"""Thirty and more, from OWASP's page on ReDoS, from outages that became known, and textbook forms."""


def hostile(repeated: str) -> str:
    """Return a million bytes of *repeated*, with an end that keeps most of the patterns from matching."""
    return (repeated * (MILLION // len(repeated.encode())))[: MILLION - 1] + "\x01"

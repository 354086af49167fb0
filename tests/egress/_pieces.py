"""What the corpus is made of: tricks with authorities, schemes, characters, addresses and paths."""

from __future__ import annotations

GOOD = ("api.example.com", "www.example.org", "xn--mnchen-3ya.example", "192.0.2.10")
BAD = (
    "evil.test",
    "127.0.0.1",
    "169.254.169.254",
    "localhost",
    "[::1]",
    "example.org",
    "2130706433",
)

# {g} is a granted host, {b} one that is not.
AUTHORITIES: dict[str, tuple[str, ...]] = {
    "userinfo": (
        "{b}@{g}", "{g}@{b}", "{g}:80@{b}", "{g}:pw@{b}", "u@{g}@{b}", "u:p@{g}", "{g}%40{b}",
        "@{b}", "@{g}", "{g}@", ":@{g}", ":@{b}", "{b}:{g}@{g}", "{g}@{g}@{b}", "{b}%40{g}",
        "{g}:443@{b}:443", "{g}#@{b}", "{g}?@{b}", "{g}#{g}@{b}", "{g}?x@{b}/", "%40{b}@{g}",
    ),
    "backslash": (
        "{b}\\@{g}", "{g}\\@{b}", "{g}\\{b}", "{b}\\{g}", "{b}\\.{g}", "{g}\\.{b}", "\\{g}",
        "\\\\{g}", "{b}\\\\{g}", "{g}\\..\\{b}", "{b}#\\@{g}", "{b}?\\@{g}", "{g}%5c@{b}",
        "{b}%5c{g}", "{g}:80\\@{b}", "{g}\\#@{b}", "{g}\\?@{b}", "{g}/\\@{b}",
        "{g}/\\\\{b}", "{g}/x?\\{b}", "{g}/x#\\@{b}",
    ),
    "delimiter": (
        "{b}/{g}", "{b}#{g}", "{b}?{g}", "{b};{g}", "{b},{g}", "{g};{b}", "{g},{b}", "{g};@{b}",
        "{g}&@{b}", "{g}${b}", "{b}#.{g}", "{b}?.{g}", "{b}/.{g}", "{b}%23.{g}", "{b}%2f.{g}",
        "{b}%2f{g}", "{b}%3f.{g}", "{b}%00.{g}", "{b}%00{g}", "{g}%00.{b}", "{g}%0a{b}", "{b}%20{g}",
        "{b}:{g}", "{g}:{b}", "({g})", "{{{g},{b}}}", "[{g}]", "<{g}>", '"{g}"', "{g}|{b}", "{g}^{b}",
        "{g}`{b}", "{g}'{b}", "{g}!{b}", "{g}~{b}", "{g}*{b}", "{g}={b}", "{g}+{b}", "{g}%2b{b}",
        "[{g}", "{g}]", "[{b}]{g}", "[{b}]@{g}", "{g}[{b}]", "[[{g}]]", "_{g}", "{g}_",
    ),
    "near": (
        "{g}.{b}", "{b}.{g}.test", "{g}{b}", "x{g}", "{g}x", "x-{g}", "{g}-x", "{g}.test",
        "{g}.", "{g}..", ".{g}", "..{g}", "-{g}", "{g}-", "{g}.-", "{g}.com", "evil{g}", "www{g}",
        "", ".", "..", "-", "*", "*.{g}", "%", "%25", "0", "com", "example.com", "a.b.example.org",
        "example.org", ".example.org", "a..example.org", "evilexample.org", "*.example.org",
        "xn--80ak6aa92e.example.org", "a_b.example.org", "-a.example.org", "a-.example.org",
        "xn--.example.org", "XN--mnchen-3ya.example.org", "a.example.org.", "a.example.org.evil.test",
    ),
    "port": tuple(
        f"{{g}}:{port}"
        for port in (
            "", "0", "00", "00443", "0443", "080", "+443", "-1", "-443", "65536", "65979", "99999999999",
            "4 43", "443 ", " 443", "443:80", "443:", ":443", "0x1bb", "8080", "22", "1e2", "4_43", "443a",
            "a443", "443.0", "443,80", "443;80", "443%20", "%34%34%33", "\u0664\u0664\u0663", "\uff14\uff14\uff13",
            "443\t", "443\u200b",
            "\u00b2", "\u2460", "4294967739", "-65093", "443@{b}", "443@{b}:443", "443#@{b}", "443?@{b}", "443\\@{b}",
        )
    ),
    "label": (
        "{long}.example.org", "{huge}.example.org", "{many}example.org", "a." * 130 + "example.org", "{g}/{vast}",
    ),
}  # fmt: skip

LABELS = (
    "fa\u00df",
    "\u017fs",
    "\u212aey",
    "\u03c2",
    "\u0131",
    "\u0130",
    "stra\u00dfe",
    "\u1e9e",
    "a\u200db",
)
"""Labels of which the two standards of international names make different ones, or a plain one."""

CONFUSABLE = {
    "a": "\u0430", "c": "\u0441", "e": "\u0435", "i": "\u0456", "l": "\u04cf", "m": "\u043c", "o": "\u043e",
    "p": "\u0440", "x": "\u0445",
}  # fmt: skip

LONGER = ("x{g}", "x-{g}", "evil{g}", "www{g}")

SCHEMES = (
    "ftp://", "file://", "gopher://", "ws://", "wss://", "dict://", "ldap://", "javascript://", "data://",
    "", "//", "///", "://", ":", "https:", "https:/", "https:///", "https:////", "https:\\\\", "https:/\\",
    "https:\\/", "http:/", "http:///", "http:", "http:\\\\", "url:https://", "URL:https://", "view-source:https://",
    "https://https://", "https:https://", "http+unix://", "https ://", "https\t://", "<https://", "htt\nps://",
    "https%3a//", "https://%", "h\u0442tps://", "\uff48ttps://", "https\u003a\uff0f\uff0f", "https+x://",
    "https.://", "0https://", "httpss://", "http s://", "s://", "unix://", "blob:https://", "jar:https://",
    "\u017fhttps://", "http\u017f://", "http\u017f:", "https;//", "https://\\", "https:// ", "https://\t",
)  # fmt: skip

INVISIBLE = (
    *(chr(code) for code in range(33)), "\x7f", "\x80", "\x85", "\xa0", "\xad", "\u034f", "\u061c", "\u115f",
    "\u1680", "\u180b", "\u180e", "\u2000", "\u2003", "\u200b", "\u200c", "\u200d", "\u200e", "\u200f",
    "\u2028", "\u2029", "\u202a", "\u202e", "\u202f", "\u205f", "\u2060", "\u2064", "\u2066", "\u2069",
    "\u206a", "\u3000", "\u3164", "\ufe00", "\ufe0f", "\ufeff", "\uffa0", "\ufffc", "\ufffd", "\U000e0001",
    "\U000e0061", "\U000e0100", "\ud800", "\udc80", "\udfff",
)  # fmt: skip

DELIMITER_ALIKES = {
    ".": "\u3002\uff0e\uff61\u2024\u06d4\u0701\u0702\u00b7\u2025\u2026\ufe52\u2488",
    "/": "\uff0f\u2044\u2215\u29f8\u2100\u2101\u2105\u2106\u3033",
    "@": "\uff20\ufe6b",
    ":": "\uff1a\ufe55\ua789\u2236\u02d0\u2a74",
    "#": "\uff03\ufe5f\u266f",
    "?": "\uff1f\ufe56\u2048\u2047\u2049",
    "\\": "\uff3c\ufe68\u2216\u29f5",
    "%": "\uff05\ufe6a\u066a\u2030",
}

ADDRESSES: dict[str, tuple[str, ...]] = {
    "127.0.0.1": (
        "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0x7F.1", "0177.0.0.1",
        "017700000001", "0177.1", "127.0.0.01", "127.0.0.1.", "127.000.000.001", "0127.0.0.1", "127.0.0.0x1",
        "0x7f.0x0.0x0.0x1", "1.0.0.127.in-addr.arpa", "4294967296", "18446744071544324097", "256.0.0.1",
        "127.0.0.256", "127.0.0", "127.0.0.1.1", "127..1", "0x", "0x.0x", "0", "0.0.0.0", "00", "0x0",  # noqa: S104
        "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]",
        "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]", "[0:0:0:0:0:0:0:1]", "[::0001]", "[::1%25lo]", "[::1%lo]",
        "[::1", "::1", "[::1]]", "[[::1]]", "[::]", "[0::0]", "[::1].", "[::1]x", "[fe80::1%25eth0]", "[]",
        "[:]", "[.]", "[v1.x]", "[127.0.0.1]", "[api.example.com]", "[::1]@api.example.com", "[::1/128]",
    ),
    "192.0.2.10": (
        "192.0.522", "3221225994", "0xc000020a", "0300.0.2.10", "192.0.2.012", "192.0.2.10.", "192.0.2.0xa",
        "192.0.02.10", "0xC0.0.2.10", "192.0.2.10.0", "192.0.2.010", "030000001012", "192.00.2.10",
        "[::ffff:192.0.2.10]", "[::ffff:c000:20a]", "[::192.0.2.10]", "[192.0.2.10]", "\u2460\u2468\u2461.0.2.10",
        "\uff11\uff19\uff12.0.2.10", "192\u30020.2.10", "192.0.2.1\u2070", "192.0.2.\u0661\u0660",
    ),
    "[2001:db8::10]": (
        "2001:db8::10", "[2001:db8:0:0:0:0:0:10]", "[2001:0db8::10]", "[2001:db8::0010]", "[2001:db8::10%25x]",
        "[2001:db8::10%x]", "[2001:db8::0.0.0.16]", "[2001:db8::10", "2001:db8::10]", "[2001:db8::10]x",
        "[2001:db8::10].", "[2001:db8::10]:", "[2001:db8::10]:0", "[2001:db8::10]:443:1", "[2001:db8::10]@evil.test",
        "[2001:db8:::10]", "[2001:db8::1:0]", "[2001%3adb8::10]", "%5b2001:db8::10%5d", "[[2001:db8::10]]",
    ),
}  # fmt: skip

ESCAPES = (
    "/", "", "/x", "/publicx", "/PUBLIC/x", "/publi", "/Public", "/public.", "/public..", "/public%00/x",
    "/public/..", "/public/../x", "/public/../../x", "/public/./../x", "/public/.", "/public/./x",
    "/public/%2e%2e/x", "/public/%2E%2E/x", "/public/.%2e/x", "/public/%2e./x", "/public/..%2fx", "/public%2f..%2fx",
    "/public/%2e%2e%2fx", "/public/..;/x", "/public;/../x", "/public;a=b/x", "/public/..;a/x", "/public/%2e%2e;/x",
    "/public//x", "/public///", "//public/x", "//evil.test/public/x", "/public//../x", "/public//../../x",
    "/public/..%5cx", "/public/..%5c..%5cx", "/public\\..\\x", "/public/\\../x", "/public%5c..%5cx",
    "/public/%252e%252e/x", "/public/%252e%252e%252fx", "/public/%25252e%25252e/x", "/public/..%252fx",
    "/public/..%00/x", "/public/x%00/../../y", "/public/..%0d%0a/x", "/public/%0a../x", "/public/%3f/../../x",
    "/public/%23/../../x", "/public/x/../../y", "/public/...", "/public/..../x", "/public/%c0%ae%c0%ae/../x",
    "/public/%zz/x", "/public/%", "/public/%2", "/public/{x}", "/public/<x>", "/public/x|y", "/public/x^y",
    "/%70ublic/x", "/public%2fx", "/%2fpublic/x", "/x/../public/y", "/./public/x", "/../public/x", "/;/public/x",
    "/public%3b/x", "/public/%7f/../x", "/public/\u2025/x", "/public/\uff0e\uff0e/x", "/public/..\u2215x",
    "/?/public/x", "/#/public/x", "?/public/x", "#/public/x", "/x?/public/", "/x#/public/",
)  # fmt: skip
STAYS = (
    "/public", "/public/", "/public/x", "/public/a/b", "/public/a/", "/public/a%20b", "/public/a.b/c.d",
    "/public/x?y=/../z", "/public/x#/../z", "/public?x", "/public/.well-known/x", "/public/a..b", "/public/x?a=..%2f",
    "/public/caf%C3%A9", "/public/a+b,c@d:e=f&g!h'i(j)*k~l_m-n$o",
)  # fmt: skip
HARMLESS = (
    "", "/", "?x=1", "#x", "/@evil.test", "/x?u=https://evil.test/@x", "/x#@evil.test", "//evil.test",
    "/..//../@evil.test", "/x;y=z", "/a:b", "/%2e%2e/x", "/[x]", "/x?a[]=1|2",
)  # fmt: skip
TAILS = (
    "",
    "/",
    "/x",
    "/x?q=1",
    "/x#top",
    "/%40{b}",
    "/@{b}",
    "/x?next=https://{b}/",
    "/x#@{b}",
    "//{b}/x",
)

PIECES = (
    "@", "\\", "#", "?", "/", "//", ":", ".", "..", "%", "%2e", "%40", "%00", "%0d%0a", " ", "\t", "\n", "\r", "\0",
    ";", "&", "[", "]", "evil.test", "api.example.com", "www.example.org", "127.0.0.1", "localhost", "\u3002", "\uff0f",
    "\uff20", "\xad", "\u200b", "%ff", "xn--", "-", "_", ":80", ":443", ":22", "http:", "https://", "::1", "0x7f.1",
    "@evil.test", "\\@evil.test", "#@evil.test", ".evil.test", "/../", "evil.test/", "|", "^", "{", "}", "<", ">", "`",
)  # fmt: skip

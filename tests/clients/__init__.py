"""What the tests of governed clients of all providers share; the plugins' own tests derive from what is here."""

import pytest

# Their assertions are told as those of test modules are.
pytest.register_assert_rewrite(
    *(
        f"{__name__}.{name}"
        for name in ("calls", "canaries", "reviews", "streams", "surfaces", "tools")
    )
)

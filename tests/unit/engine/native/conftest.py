"""The C is held against the math library, where that is one of the known kind."""

import pytest

from tests.support.sums import adds_in_chains


@pytest.fixture(autouse=True, scope="session")
def known_math_library() -> None:
    if not adds_in_chains():
        pytest.skip("this machine's math library adds in another order; nothing is served in C")

"""What somebody probably meant by a name that there is not."""

import difflib
from collections.abc import Iterable


def meant(name: str, known: Iterable[str]) -> str:
    """Return a question to put behind a complaint; empty where nothing is close.

    >>> meant("DualPropagation", ["backprop", "dual-propagation"])
    ' (did you mean dual-propagation?)'
    >>> meant("x", ["backprop"])
    ''
    """
    close = difflib.get_close_matches(name.lower().replace("_", "-"), list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""

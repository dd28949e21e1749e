"""Under which account of the machine a process runs."""

from __future__ import annotations

import os
import pwd


def account() -> str:
    """The name of the account, or its number if it has no name, as in a container started with a free user id."""
    number = os.geteuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)

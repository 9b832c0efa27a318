"""The few kinds of failure that Hone tells apart.

HTTP status codes belong to the server's edge and exit codes to the command line's edge; this vocabulary knows neither.
A message says what was asked, what was found and what to do next.
"""

from typing import Literal

Category = Literal["user", "server", "unknown"]


class HoneError(Exception):
    """Anything that Hone itself raises on purpose."""

    category: Category = "server"


class UserError(HoneError):
    """The caller can mend this: bad data, an unknown name, a limit that was passed."""

    category: Category = "user"


class NotFoundError(UserError):
    """The named object does not exist, or belongs to somebody else."""


class BusyError(HoneError):
    """Too much of the caller's work waits already; the same request is welcome in a moment."""

    category: Category = "user"


class AuthenticationError(UserError):
    """No key, or one that this server does not know."""


class ForbiddenError(UserError):
    """The key is known, but not for this."""


class ServerError(HoneError):
    """Our fault: a bug, or a machine that failed."""


class DiskFullError(ServerError):
    """There was no room to write: nothing was changed, and the same request is welcome when there is room again."""


class EngineLostError(ServerError):
    """The engine process ended while an operation was under way; the operation may be submitted again."""

"""How programs end that use the official SDK."""

import signal

ENDED_WELL = (0, -signal.SIGABRT)
"""The SDK's HTTP library (pyqwest, up to 0.12 at least) aborts some of the processes that end within milliseconds of
their last answer: a thread of its own still lets go of Python objects while the interpreter ends. By then everything is
done and printed, which is what to check. It takes a few lines without any of our code to see it."""

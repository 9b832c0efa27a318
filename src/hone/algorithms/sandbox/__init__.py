"""Python that nobody has read, run apart from this process, with bounds on all it can take.

run.py      starts a program, feeds it, bounds its output, ends it: read this first
child.py    the program's side: namespaces, limits, a closed file system
"""

from hone.algorithms.sandbox.run import Isolation, Limits, Outcome, run_python

__all__ = ["Isolation", "Limits", "Outcome", "run_python"]

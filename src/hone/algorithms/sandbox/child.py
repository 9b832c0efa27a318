"""The program's side of the sandbox, run by a Python of its own: isolate, limit, start the program, say how it ended.

Three processes: a launcher, which makes the namespaces; an init, which is process 1 of them and takes everything
with it when it goes; and the program, which gives up its rights for good before it runs. Standard library only, and
no imports of Hone: this file starts without it.

Arguments: the descriptor to report to, the limits as JSON, the program's directory.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import random
import resource
import runpy
import signal
import struct
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = (
    0x00020000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 1, 8, 38, 47, 2
CAPABILITY_VERSION, CAP_DAC_READ_SEARCH = 0x20080522, 2

# Landlock: system call numbers are the same on every architecture that has it.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
RULE_PATH_BENEATH = 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
RIGHTS_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1}
"""All rights that version 1, 2 and 3 know; later versions only add rights on devices, networks and signals."""
DIRECTORY_RIGHTS = ~(EXECUTE | WRITE_FILE | READ_FILE | (1 << 14))
"""Rights that a rule on a single file must not have."""

Libc = Any


def main() -> None:
    report, limits, directory = int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
    libc = ctypes.CDLL(None, use_errno=True)
    _die_with_parent(libc)
    user = _other_user(directory)
    namespaces = _unshare(libc)
    ruleset = _closed_file_system(libc, directory)
    isolation = {"network": namespaces, "processes": namespaces, "files": ruleset is not None}
    os.write(report, (json.dumps(isolation) + "\n").encode())
    # In namespaces of its own the first process made from here on is process 1.
    _and_wait(lambda: _init(libc, report, limits, directory, user, ruleset, namespaces))


def _init(
    libc: Libc,
    report: int,
    limits: dict[str, Any],
    directory: str,
    user: int | None,
    ruleset: int | None,
    namespaces: bool,
) -> None:
    _die_with_parent(libc)

    def program() -> None:
        os.close(report)
        _program(libc, limits, directory, user, ruleset, namespaces)

    status = _and_wait(program)
    signalled = os.WIFSIGNALED(status)
    ended = {
        "ended": "signal" if signalled else "exit",
        "code": os.WTERMSIG(status) if signalled else os.WEXITSTATUS(status),
    }
    os.write(report, (json.dumps(ended) + "\n").encode())


def _program(
    libc: Libc, limits: dict[str, Any], directory: str, user: int | None, ruleset: int | None, namespaces: bool
) -> None:
    _limit(limits, None if namespaces or user is not None else os.getuid())
    if user is not None:
        _become(libc, user, directory, ruleset is not None)
    _die_with_parent(libc)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if ruleset is not None:
        _check(libc.syscall(RESTRICT_SELF, ruleset, 0))
        os.close(ruleset)
    os.umask(0o077)
    if not namespaces:
        sys.addaudithook(_guard)
    sys.argv = ["main.py"]
    sys.path.insert(0, directory)
    file = os.path.join(directory, "main.py")
    try:
        runpy.run_path(file, run_name="__main__")
    except Exception as error:
        _show(error, file)
        sys.exit(1)


def _show(error: Exception, file: str) -> None:
    """The traceback as the program's author knows it: from the program's first line on."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename != file:
        frames = frames.tb_next
    traceback.print_exception(error.with_traceback(frames))


def _and_wait(work: Callable[[], None]) -> int:
    """Do `work` in a process of its own and wait for it; the status is that of `waitpid`."""
    pid = os.fork()
    if pid == 0:
        # Ends as any Python does: SystemExit is a status, other exceptions are a traceback and status 1.
        work()
        sys.exit(0)
    while True:
        ended, status = os.wait()  # orphans too, if this is process 1
        if ended == pid:
            return status


def _die_with_parent(libc: Libc) -> None:
    if sys.platform == "linux":
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _unshare(libc: Libc) -> bool:
    """Namespaces of our own for network, processes and shared memory."""
    if not hasattr(libc, "unshare"):
        return False
    uid, gid = os.getuid(), os.getgid()
    wanted = CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC
    if uid == 0 and libc.unshare(wanted) == 0:
        return True
    if libc.unshare(wanted | CLONE_NEWUSER) != 0:
        return False
    for file, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{file}", "w") as opened:
            opened.write(text)
    return True


def _other_user(directory: str) -> int | None:
    """For root, whom the limit on processes does not bind: a user that nobody else is, who owns the directory."""
    if os.getuid() != 0:
        return None
    user = random.SystemRandom().randrange(1 << 24, 1 << 30)
    for folder, folders, files in os.walk(directory):
        for name in (".", *folders, *files):
            os.chown(os.path.join(folder, name), user, user)
    return user


def _become(libc: Libc, user: int, directory: str, files_closed: bool) -> None:
    """Give up root. Python may lie where only root can read; with Landlock saying what may be read, reading stays."""
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    kept = 1 << CAP_DAC_READ_SEARCH if files_closed else 0
    _check(libc.capset(struct.pack("Ii", CAPABILITY_VERSION, 0), struct.pack("6I", kept, kept, kept, 0, 0, 0)))
    if kept:
        # What the program starts, such as another Python, reads what it reads. A kernel without this reads less.
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_READ_SEARCH, 0, 0)
    try:
        with open(os.__file__):
            os.listdir(directory)
    except OSError as error:
        sys.exit(
            f"root has to give up its rights for the sandbox, and then cannot read {error.filename}; "
            "run it as another user, or with a Python that all can read"
        )


def _limit(limits: dict[str, Any], counted_user: int | None) -> None:
    # Where processes are counted for the whole user, those that run already are not the program's.
    others = sum(1 for _ in _tasks_of(counted_user)) if counted_user is not None else 0
    for which, value in (
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_CPU, limits["cpu_seconds"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NPROC, limits["processes"] + others),
        (resource.RLIMIT_NOFILE, 128),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))


def _tasks_of(user: int) -> Iterator[str]:
    for pid in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else ()):
        try:
            if os.stat(f"/proc/{pid}").st_uid == user:
                yield from os.listdir(f"/proc/{pid}/task")
        except OSError:
            pass


def _closed_file_system(libc: Libc, directory: str) -> int | None:
    """A Landlock ruleset: Python and the system's libraries can be read, the directory written; or None."""
    if sys.platform != "linux":
        return None
    abi = libc.syscall(CREATE_RULESET, None, 0, 1)
    if abi < 1:
        return None
    rights = RIGHTS_BY_ABI[min(abi, max(RIGHTS_BY_ABI))]
    handled = struct.pack("Q", rights)
    ruleset: int = _check(libc.syscall(CREATE_RULESET, handled, len(handled), 0))
    readable = {sys.prefix, sys.base_prefix, sys.exec_prefix, "/usr", "/bin", "/lib", "/lib32", "/lib64"}
    for path in (*readable, "/etc/ld.so.cache", "/etc/localtime", "/dev/urandom", "/dev/zero"):
        _allow(libc, ruleset, path, EXECUTE | READ_FILE | READ_DIR)
    _allow(libc, ruleset, "/dev/null", READ_FILE | WRITE_FILE)
    _allow(libc, ruleset, directory, rights)
    return ruleset


def _allow(libc: Libc, ruleset: int, path: str, rights: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # not every system has every one of them
    try:
        if not os.path.isdir(path):
            rights &= ~DIRECTORY_RIGHTS
        _check(libc.syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, struct.pack("=Qi", rights, opened), 0))
    finally:
        os.close(opened)


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    """Shuts Python's doors where the kernel has not shut its own. Native code does not pass here."""
    closed = ("socket.", "subprocess.", "ctypes.", "os.fork", "os.exec", "os.posix_spawn", "os.system", "os.kill")
    if event.startswith(closed):
        raise PermissionError(errno.EPERM, f"the sandbox does not allow {event}")


def _check(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


if __name__ == "__main__":
    main()

"""Become `python ARGUMENTS…`, and receive SIGTERM when the parent process is gone, however it went (Linux only)."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def end_with(parent_pid: int) -> None:
    """From now on, the end of process `parent_pid` is SIGTERM for this one."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent_pid:
        sys.exit("the parent process ended before its child started")


if __name__ == "__main__":
    end_with(os.getppid())
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])

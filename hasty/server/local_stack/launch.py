"""Becomes another program that dies with its parent: `launch.py <parent pid> <signal> <program> <argument>...`.

The kernel keeps PR_SET_PDEATHSIG across exec, so a child started through here gets the signal when the supervisor
ends, however it ends. A program of its own rather than a `preexec_fn`, which is unsafe in a process with threads.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel for the signal, then become the program."""
    parent, signal, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit("the supervisor ended before its child began")  # its death came before the kernel was asked
    os.execvp(command[0], command)  # noqa: S606 - that is the purpose; no shell is wanted


if __name__ == "__main__":
    main()

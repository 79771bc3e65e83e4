"""What can keep a stack from running; the text of each is one line: what happened and what to do.

StackError
├── AlreadyRunningError   another stack holds the folder
├── MissingProgramError   a program the stack starts is not there
├── DiskTooSmallError     a disk cannot hold what the stack may keep
├── PortInUseError        the port asked for belongs to someone else
└── WouldNotStartError    a child ended, or did not answer, before the stack was ready
"""


class StackError(Exception):
    """The stack cannot run; the text is one line for the person in front of it."""


class AlreadyRunningError(StackError):
    """Another stack holds the folder."""


class MissingProgramError(StackError):
    """A program the stack starts is not there."""


class DiskTooSmallError(StackError):
    """A disk cannot hold what the stack may keep."""


class PortInUseError(StackError):
    """The port asked for belongs to someone else."""


class WouldNotStartError(StackError):
    """A child ended, or did not answer, before the stack was ready."""

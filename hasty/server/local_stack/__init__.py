"""The whole system as child processes, without Docker."""

from hasty.server.local_stack.child import Child
from hasty.server.local_stack.config import Link, StackConfig
from hasty.server.local_stack.errors import StackError
from hasty.server.local_stack.stack import Stack

__all__ = ["Child", "Link", "Stack", "StackConfig", "StackError"]

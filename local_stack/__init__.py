"""The whole system as child processes, without Docker."""

from local_stack.child import Child
from local_stack.config import Link, StackConfig
from local_stack.errors import StackError
from local_stack.stack import Stack

__all__ = ["Child", "Link", "Stack", "StackConfig", "StackError"]

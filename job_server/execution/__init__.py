"""Where handlers run: child processes that are started, watched and replaced; `hasty.executor` is what runs in them."""

from job_server.execution.executor import Executor

__all__ = ["Executor"]

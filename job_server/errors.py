"""What can go wrong for a job-server; all of it is waited out, none of it ends a job.

StoreUnavailable   the database cannot be reached, or did not answer in time
NotPublished       the broker did not confirm an outcome
"""

from __future__ import annotations


class StoreUnavailable(Exception):
    """The database cannot be reached, or did not answer in time; whether it acted is unknown."""


class NotPublished(Exception):
    """The broker did not confirm that it holds an outcome; it may hold it."""

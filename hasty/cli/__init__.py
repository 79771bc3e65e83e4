"""The command `hasty`: one module for each of its commands, put together in `app`.

A command imports what it needs when it runs, so that `hasty --help` does not wait for it.
"""

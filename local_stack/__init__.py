"""The whole system as child processes, without Docker."""

"""Does the work of a job and records its one outcome."""

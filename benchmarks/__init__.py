"""What Hasty costs, measured beside what the same HTTP server costs when it does nothing."""

"""What every Hasty process needs around its work: settings, logs, signals, probes, batching, crash points."""

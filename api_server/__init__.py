"""Accepts jobs over HTTP, stores them, publishes them and applies their endings."""

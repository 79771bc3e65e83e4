"""Takes jobs over HTTP, keeps them, dispatches them and brings their status up to date."""

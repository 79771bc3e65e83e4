"""The api-server's requests and answers: the only place that knows HTTP's status codes."""

"""The events the two services exchange, the stream they live in, and the one adapter that speaks to NATS."""

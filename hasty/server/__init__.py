"""What the services stand on: messaging, the runtime of a process, and the stack that runs without Docker."""

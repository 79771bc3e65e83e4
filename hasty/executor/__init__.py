"""The child process in which handlers run; `job_server.execution` has its other side.

    python -P -m hasty.executor DESCRIPTOR TARGET PLACES

`DESCRIPTOR` is one end of a socket pair, `TARGET` the module with the handlers, `PLACES` a JSON object
``{"async": n, "thread": n, "process": n}``. Each line on the socket is a JSON list of messages, and each message a list
that begins with its name:

    to the child     ["run", turn_id, {"job_id", "kind", "input", "attempt", "run", "timeout_s", "labels"}]
                     ["cancel", turn_id]    ["ping", n]    ["drain"]: leave when everything is done
    from the child   ["hello", {"pid", "version", "kinds", "files"}]    ["broken", traceback]
                     ["ended", turn_id, outcome]    ["progress", turn_id, done, note]    ["pong", n]
                     ["log", turn_id or null, stream, line]
                     ["stuck", turn_id]: it does not stop although it was told to
                     ["lost", turn_id]: the process that ran it has died
                     ["dropped", n]: so many lines of output were left out

An outcome is ``{"status", "output", "failure", "final", "delay_s", "started_at", "ended_at"}``, with a status of
``finished``, ``failed``, ``cancelled``, ``snoozed`` or ``refused``.
"""

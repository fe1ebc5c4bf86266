"""The flow by which Prefect runs a task of the hybrid scheduler.

A start of it is one attempt: it calls `scheduler exec` on the worker's machine, passes on to the run's log what that
prints, and fails with the reason that it gives. It needs Prefect 3 and nothing else.
"""

import json
import os
import signal
import subprocess
from collections import deque
from datetime import timezone
from typing import Any, Dict, Optional

from prefect import flow, get_run_logger
from prefect.context import FlowRunContext

# A worker kills a run 30 seconds after it told it to end. What the run started has to be gone by then.
GRACE_SECONDS = 20

# How much of the output is the reason when the program could not even begin.
LAST_LINES = 20

BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"


@flow(name="hybrid_scheduler", log_prints=False, persist_result=False)
def run_task(
    task: str,
    program: str = "scheduler",
    config: Optional[str] = None,
    run_id: Optional[str] = None,
    fire_time: Optional[str] = None,
    params: Dict[str, Any] = {},
) -> None:
    """Runs an attempt of the task and ends as that ends."""
    words = command(task, program, config, run_id, fire_time, params)
    last = deque(maxlen=LAST_LINES)
    # A group of its own, so that all of it can be ended and nothing else is.
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            for line in process.stdout:
                last.append(log(line))
            code = process.wait()
        finally:
            # Here with the program still running only when this run is told to end.
            end(process)
    if code == 1:
        # The last line says what became of the attempt.
        raise AttemptFailed(last[-1] if last else f"{program} said nothing")
    if code != 0:
        raise AttemptFailed("\n".join([f"{program} ended with {code}", *last]))


class AttemptFailed(Exception):
    """The attempt did not succeed; the text is the reason."""


def command(task, program, config, run_id, fire_time, params):
    """The call that runs this attempt."""
    run = FlowRunContext.get().flow_run
    if run_id is None and not run.auto_scheduled:
        # A person started it in Prefect. Of what a schedule makes, the fire time says which run it is.
        run_id = base32(run.id)
    if fire_time is None:
        # The time that was planned, however late a worker got to it.
        planned = run.expected_start_time.astimezone(timezone.utc)
        fire_time = planned.isoformat(timespec="milliseconds")
    # When this process is killed, nobody is left to end the program.
    words = [program, "exec", "--parent", str(os.getpid()), "--attempt", str(max(run.run_count, 1))]
    for flag, value in [("--config", config), ("--run-id", run_id), ("--fire-time", fire_time)]:
        if value is not None:
            words += [flag, value]
    for key, value in params.items():
        words += ["--param", f"{key}={toml(value)}"]
    return [*words, "--", task]


def base32(uuid):
    """The id as the scheduler writes its own."""
    return "".join(BASE32[uuid.int >> shift & 31] for shift in range(125, -1, -5))


def toml(value):
    """The value as `--param` reads it."""
    if isinstance(value, dict):
        inner = ", ".join(f"{toml(str(key))} = {toml(of_key)}" for key, of_key in value.items())
        return "{" + inner + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def log(line):
    line = line.rstrip("\r\n")
    if line:
        get_run_logger().info("%s", line)
    return line


def end(process):
    """Ends what is left of the program: asked first, and by force after a while."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        rest, _ = process.communicate(timeout=GRACE_SECONDS)
        for line in rest.splitlines():
            log(line)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

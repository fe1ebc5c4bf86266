import time

from prefect import flow, get_run_logger


@flow
def demo(who: str = "world", seconds: float = 0.0):
    log = get_run_logger()
    log.info("hello %s", who)
    if who == "nobody":
        raise ValueError("nobody is there")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.1)
    log.info("goodbye %s", who)

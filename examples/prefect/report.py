"""A flow of three steps: it reads a page, counts its words and says which are used most.

`python report.py` makes the deployment `report/words` of it, for the workers of the pool `hybrid-scheduler`.
"""

import re
import time
from collections import Counter
from pathlib import Path
from typing import Dict

from prefect import flow, get_run_logger, task

HERE = Path(__file__).resolve().parent


@task(retries=2, retry_delay_seconds=1)
def read(page: str) -> str:
    return (HERE / page).read_text(encoding="utf-8")


@task
def count(text: str) -> Dict[str, int]:
    return Counter(re.findall(r"[a-z]{4,}", text.lower()))


@task
def tell(words: Dict[str, int], top: int, pause: float) -> None:
    log = get_run_logger()
    for word, times in Counter(words).most_common(top):
        log.info("%s: %s", word, times)
        time.sleep(pause)


@flow
def report(page: str = "README.md", top: int = 5, pause: float = 0.0) -> None:
    """Says the words that a page uses most."""
    words = count(read(page))
    get_run_logger().info("%s has %s different words", page, len(words))
    tell(words, top, pause)


if __name__ == "__main__":
    report.from_source(source=str(HERE), entrypoint="report.py:report").deploy(
        name="words", work_pool_name="hybrid-scheduler"
    )

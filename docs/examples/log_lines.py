# From docs/howto/logging.md.
import logging

from penstock import flow, get_run_logger, task


@task
def load(path: str) -> int:
    get_run_logger().info("reading %s", path)
    return 3


@flow(log_prints=True)
def etl() -> int:
    print("a line of its own")
    return load("data.csv")


class Memory(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


memory = Memory()
logger = logging.getLogger("penstock")
logger.addHandler(memory)
logger.setLevel(logging.INFO)
try:
    etl()
finally:
    logger.removeHandler(memory)
    logger.setLevel(logging.NOTSET)

(reading,) = [record for record in memory.records if "reading" in record.msg]
assert reading.getMessage().endswith(" - reading data.csv")
assert reading.name == "penstock.task_runs"
assert reading.run_name.startswith("load-")
assert reading.run_id
assert any(record.getMessage().endswith(" - a line of its own") for record in memory.records)

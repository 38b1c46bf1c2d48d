# From docs/howto/serialization-errors.md.
import threading

from penstock import flow, task
from penstock.errors import SerializationError
from penstock.runners import ProcessPoolTaskRunner


class Session:
    def __init__(self):
        self._lock = threading.Lock()


class Config:
    def __init__(self, url):
        self.url = url
        self.session = Session()


@task
def load(cfg):
    return cfg.url


@flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
def etl():
    return load.submit(Config("https://example.org")).result()


try:
    etl()
except SerializationError as error:
    print(error)

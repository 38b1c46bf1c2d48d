# From docs/howto/test-your-flows.md.
import pytest

from penstock import flow, task
from penstock.errors import UpstreamFailed
from penstock.states import StateType
from penstock.testing import penstock_test_harness


@task
def load(path: str) -> str:
    raise FileNotFoundError(path)


@task
def count(text: str) -> int:
    return len(text)


@flow
def etl(path: str) -> int:
    return count.submit(load.submit(path)).result()


def test_a_missing_file_is_the_cause(penstock_engine):
    state = etl("nowhere.txt", return_state=True)
    assert state.type is StateType.FAILED
    with pytest.raises(UpstreamFailed) as failure:
        state.result()
    assert isinstance(failure.value.__cause__, FileNotFoundError)


if __name__ == "__main__":  # the same without pytest
    with penstock_test_harness() as engine:
        test_a_missing_file_is_the_cause(engine)

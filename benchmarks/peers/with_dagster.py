# /// script
# dependencies = ["dagster==1.13.29", "numpy==2.4.6"]
# ///
"""Dagster: a job that maps an op over dynamic outputs, logs at ERROR.

Called: in this process, with an instance and values in memory. Processes: the multiprocess executor with two at a time,
which starts a process for every op. Large results go from one op to another through the filesystem I/O manager; they
are not synced. The time is that of the whole run.
"""

from contextlib import contextmanager
from pathlib import Path

import work
from dagster import (
    DagsterInstance,
    DynamicOut,
    DynamicOutput,
    FilesystemIOManager,
    In,
    Out,
    execute_job,
    job,
    mem_io_manager,
    multiprocess_executor,
    op,
    reconstructable,
)

QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}


def fan_out(function, resources, executor=None):
    @op(out=DynamicOut(), config_schema={"items": [int]})
    def items(context):
        for number, item in enumerate(context.op_config["items"]):
            yield DynamicOutput(item, mapping_key=str(number))

    @op
    def step(item):
        return function(item)

    @op
    def collect(values):
        return values

    @job(resource_defs=resources, executor_def=executor)
    def mapped():
        collect(items().map(step).collect())

    return mapped


def config_of(items):
    return QUIET | {"ops": {"items": {"config": {"items": list(items)}}}}


@contextmanager
def called(function):
    mapped = fan_out(function, {"io_manager": mem_io_manager})
    with DagsterInstance.ephemeral() as instance:

        def run(items):
            ended = mapped.execute_in_process(run_config=config_of(items), instance=instance)
            return ended.output_for_node("collect")

        yield lambda items: work.timed(lambda: run(items))


def of_processes(name, folder):
    """The job that the multiprocess executor makes anew in every process, from a name and a folder."""
    executor = multiprocess_executor.configured({"max_concurrent": work.WORKERS})
    return fan_out(getattr(work, name), {"io_manager": FilesystemIOManager(base_dir=folder)}, executor)


def identity_job():
    return of_processes("identity", str(Path.cwd()))


def burn_job():
    return of_processes("burn", str(Path.cwd()))


@contextmanager
def processes(function):
    mapped = reconstructable({work.identity: identity_job, work.burn: burn_job}[function])
    with DagsterInstance.local_temp() as instance:

        def run(items):
            with execute_job(mapped, instance=instance, run_config=config_of(items), raise_on_error=True) as ended:
                return ended.output_for_node("collect")

        yield lambda items: work.timed(lambda: run(items))


@contextmanager
def large(folder):
    read = []

    @op(config_schema={"number": int}, out=Out(io_manager_key="files"))
    def made(context):
        return work.array(context.op_config["number"])

    @op(ins={"value": In()})
    def again(value):
        read.append(value)

    @job(resource_defs={"files": FilesystemIOManager(base_dir=str(folder)), "io_manager": mem_io_manager})
    def kept():
        again(made())

    with DagsterInstance.ephemeral() as instance:

        def keep(number):
            config = QUIET | {"ops": {"made": {"config": {"number": number}}}}
            kept.execute_in_process(run_config=config, instance=instance)
            return read.pop()

        yield lambda number: work.timed(lambda: keep(number))


if __name__ == "__main__":
    work.program(["dagster"], {"called": called, "processes": processes}, fan_outs=["called"], large=large)

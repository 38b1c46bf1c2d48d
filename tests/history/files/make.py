"""Make the file of the current version that later versions have to open: run it once, when the schema changes."""

from __future__ import annotations

from pathlib import Path

from penstock_history.records import RUNS
from penstock_history.sqlite.database import SQLite
from penstock_history.sqlite.schema import VERSION
from penstock_history.testing.probes import EPOCH, Story


def main() -> None:
    """Write the file beside this one."""
    path = Path(__file__).parent / f"v{VERSION}.db"
    writer = SQLite(path).open_writer("full")
    story = Story(writer)
    root = story.begin(name="amber-falcon", tags=("etl",), created=EPOCH)
    story.flow(root, entrypoint="flows.py:main", parameters="{}", code="c0de", version="1")
    first = story.done(inside=root, name="fetch-0", definition="fetch")
    story.result(first, inputs="in", result={"url": "file:///x", "key": "k", "size": 5, "type": "int", "checksum": "c"})
    second = story.done("FAILED", inside=root, name="fetch-1", definition="fetch", attempts=2, message="ValueError: no")
    row = dict(zip(RUNS, story.group.runs[-1], strict=True)) | {"sequence": 5}
    story.group.runs[-1] = tuple(row.values())
    story.state(second, 3, "SCHEDULED", "AwaitingRetry", due=EPOCH + 5, worker="w", seconds=0.5, attempt=1)
    story.state(second, 4, "RUNNING", "Retrying", attempt=2)
    story.done("SKIPPED", inside=root, name="load-0", definition="load", state="UpstreamFailed")
    story.log(first, "once")
    story.log(second, "twice", level=40)
    story.write()
    story.end(root, "FAILED", message="fetch-1 failed")
    story.write()
    writer.close()
    for end in (".lock", ".owners"):
        Path(f"{path}{end}").unlink()


if __name__ == "__main__":
    main()

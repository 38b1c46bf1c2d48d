"""In a notebook every cell runs inside a loop that turns already."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from cells import CELLS, RUNNERS, name_of
from nbclient import NotebookClient

SETUP = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1] / "support")!r})
import cells
"""


@pytest.mark.filterwarnings("default")
@pytest.mark.leaks("nbclient keeps the threads and sockets of its own loop")
def test_the_eight_cells_work_in_a_kernel() -> None:
    cells = [nbformat.v4.new_code_cell(SETUP)]
    for runner in RUNNERS:
        for cell in CELLS:
            waits = "await " if cell[0] == "async" else ""
            cells.append(nbformat.v4.new_code_cell(f"{waits}cells.make({cell!r}, {runner!r})(1)  # {name_of(cell)}"))
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=5, startup_timeout=60, kernel_name="python3").execute()
    for cell in notebook.cells[1:]:
        values = [output.data["text/plain"] for output in cell.outputs if output.output_type == "execute_result"]
        assert values == ["2"], cell.source

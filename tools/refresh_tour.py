"""Run docs/tour.ipynb and write down what it prints and shows: `python tools/refresh_tour.py`.

It runs in float32, so that every machine prints the same order, in a folder of its own that holds sample_data. The test
of the notebook (tests/test_tour.py) holds it to what it prints.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
TOUR = ROOT / "docs" / "tour.ipynb"


def executed(notebook: Any, folder: Path, programs: Path | None = None) -> Any:
    """The notebook with its outputs, run in `folder`; `programs` holds the `bt` to run, by default this Python's.

    Raises nbclient's CellExecutionError where a cell fails.
    """
    (folder / "sample_data").symlink_to(ROOT / "sample_data")
    path = os.pathsep.join([str(programs or Path(sys.executable).parent), os.environ["PATH"]])
    python_path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": python_path, "HF_HUB_OFFLINE": "1"}
    environment |= {"BT_DTYPE": "float32", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", record_timing=False, resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=environment)
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
    return notebook


def main() -> None:
    notebook = nbformat.read(TOUR, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        executed(notebook, Path(folder))
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        for output in cell.get("outputs", []):
            # Objects print their address: none is shown beside a picture.
            if "data" in output and {"image/png", "image/jpeg"} & output.data.keys():
                output.data["text/plain"] = re.sub(r" at 0x[0-9a-f]+", "", output.data["text/plain"])
    nbformat.write(notebook, TOUR)


if __name__ == "__main__":
    main()

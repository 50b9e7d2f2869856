"""Hand a file to whatever the system opens it with: a page to the browser, an image to the viewer."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from bt_cli.errors import BtError, NotFound
from bt_cli.files.shown_path import shown_path
from bt_cli.sources.web_address import is_url


def open_file(path: str | Path) -> None:
    """Open a file, or an address on the web, and go on at once.

    Raises:
        NotFound: There is no such file.
        BtError: The system has nothing to open files with.
    """
    on_web = is_url(str(path))
    if not on_web and not Path(path).exists():
        raise NotFound(f"{shown_path(path)}: no such file to open; bt index brings the index up to date")
    opener = "open" if sys.platform == "darwin" else "xdg-open"
    found = shutil.which(opener)
    if found is None:
        raise BtError(f"{shown_path(path)}: can't be opened, as {opener} is not installed; open the file by hand")
    # An absolute path: a name that begins with a dash is no option.
    subprocess.Popen(
        [found, str(path) if on_web else str(Path(path).absolute())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

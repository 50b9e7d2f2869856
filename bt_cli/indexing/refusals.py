"""What a run is refused for before its folders are believed: nothing there, or a folder away that had rows."""

from __future__ import annotations

import os

from bt_cli.datasets.exclusion import Exclusion
from bt_cli.datasets.image_folder import find_images
from bt_cli.datasets.passed_over import PassedOver
from bt_cli.errors import (
    Misuse,
    NotFound,
    UnreadableImage,
)
from bt_cli.files.shown_path import shown_path
from bt_cli.indexing.summary import no_images
from bt_cli.indexing.update_run import UpdateRun
from bt_cli.paths.index_paths import RootPaths
from bt_cli.planning.absence import absent_folder
from bt_cli.planning.plan import Plan
from bt_cli.planning.roots import fresh, is_excluded


def require_something(run: UpdateRun, given: list[str], known: list[str], rebuild: bool, exclusion: Exclusion) -> None:
    """Refuse a run without roots, or one that finds no image for a new index, before a folder is made for it."""
    if not given and not known:
        raise Misuse("nothing to index: name the folders or files, as in bt index FOLDER")
    roots = given if rebuild else fresh(given, known)
    if not roots or len(roots) < len(given):
        return
    places, passed_over = [run.opened(root) for root in roots], PassedOver()
    unreadable: list[str] = []

    def note(path: str, error: OSError) -> None:
        unreadable.append(f"{shown_path(path)}: {error.strerror or error}")

    if next(find_images(places, exclusion=exclusion, passed_over=passed_over, on_error=note), None) is None:
        if unreadable:
            raise UnreadableImage(f"{unreadable[0]}; no images there")
        raise no_images(places, passed_over)


def without_gone_files(roots: list[str], paths: RootPaths, plan: Plan) -> list[str]:
    """Roots without the single files that are gone and have no row any more."""
    removed = {plan.stored.path(number) for number in plan.removed.tolist()}
    return [root for root in roots if root not in removed or os.path.exists(paths.absolute(root))]


def require_folders(paths: RootPaths, roots: list[str], before: list[str], plan: Plan, exclusion: Exclusion) -> None:
    """Refuse to make an index anew without a folder that had rows (`before`) below one of its roots.

    Raises:
        NotFound: Names the folder and how to leave it out.
    """
    found = set(plan.rows.paths)
    folders = {os.path.dirname(path) for path in found}
    for folder in list(folders):
        while folder and (folder := os.path.dirname(folder)) not in folders:
            folders.add(folder)
    for path in before:
        absent = absent_folder(path, roots, lambda folder: ("" if folder == os.curdir else folder) in folders)
        if path in found or path in roots or absent is None:
            continue
        if not is_excluded(path, roots, paths, exclusion):
            raise NotFound(
                f"{shown_path(paths.absolute(absent))}: not there now, or without images; bring it back, or let it go "
                "with --forget FOLDER"
            )

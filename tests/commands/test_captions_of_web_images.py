"""Caption files whose images are addresses: the images are fetched, within bounds, and what can't be had is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest
from picture_site import Site, picture_site

if TYPE_CHECKING:
    from conftest import Ran

Bt = Callable[..., "Ran"]
SCENES = Path(__file__).resolve().parents[2] / "sample_data" / "images"
OPEN = "--allow-private-urls"
COUNT = 12


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    folder = tmp_path / "served"
    folder.mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("BT_MODEL", "tiny")
    for number in range(1, COUNT + 1):
        shutil.copy(SCENES / f"scene-{number:04d}.jpg", folder)
    with picture_site(folder) as site:
        yield site


def captions(site: Site, name: str = "captions.csv", column: str = "image", gone: bool = True) -> str:
    """A caption file of all images by their addresses, and of one that is not there."""
    lines = [f"{site.url}/scene-{number:04d}.jpg,scene number {number}" for number in range(1, COUNT + 1)]
    Path(name).write_text("\n".join([f"{column},caption", *lines, *([f"{site.url}/gone.jpg,nothing"] if gone else [])]))
    return name


def local_captions() -> str:
    Path("photos").mkdir()
    lines = [f"scene-{number:04d}.jpg,scene number {number}" for number in range(1, COUNT + 1)]
    for number in range(1, COUNT + 1):
        shutil.copy(SCENES / f"scene-{number:04d}.jpg", "photos")
    Path("local.csv").write_text("\n".join(["image,caption", *lines]))
    return "local.csv"


@pytest.mark.parametrize("column", ["image", "url"])
@pytest.mark.parametrize("more", [[], ["--rerank", "--candidates", "10"], ["--exhaustive"]])
def test_eval_measures_as_on_the_same_files(bt: Bt, site: Site, column: str, more: list[str]) -> None:
    ran = bt("eval", captions(site, column=column), OPEN, "--json", "--dtype", "float32", *more)
    assert ran.code == 0, ran.err
    assert f"skipped {site.url}/gone.jpg: the server says 404" in ran.err
    fetched = json.loads(ran.out)
    own = json.loads(bt("eval", local_captions(), "--images", "photos", "--json", "--dtype", "float32", *more).out)
    assert (fetched["images"], fetched["skipped"]) == (COUNT, 1)
    assert {key: fetched[key] for key in ("itc", "itm")} == {key: own[key] for key in ("itc", "itm")}


def test_an_evaluation_fetches_each_image_once(bt: Bt, site: Site) -> None:
    assert bt("eval", captions(site, gone=False), OPEN, "--rerank", "--candidates", "10").code == 0
    assert sorted(site.asked) == [f"/scene-{number:04d}.jpg" for number in range(1, COUNT + 1)]


@pytest.mark.parametrize(
    "command", [["eval"], ["train", "--out", "made", "--steps", "1"], ["encode", "pairs", "-o", "p"]]
)
def test_private_addresses_are_not_asked_unless_allowed(bt: Bt, site: Site, command: list[str]) -> None:
    ran = bt(*command, captions(site))
    assert ran.code == 1
    assert "127.0.0.1, which is not a public address; --allow-private-urls asks it anyway" in ran.err
    assert site.asked == []
    assert not Path("p").exists()


def test_strict_ends_with_the_first_that_can_not_be_had(bt: Bt, site: Site) -> None:
    ran = bt("eval", captions(site), OPEN, "--strict")
    assert (ran.code, ran.out) == (1, "")
    assert f"{site.url}/gone.jpg: the server says 404" in ran.err


def test_images_of_a_folder_that_is_named_are_not_fetched(bt: Bt, site: Site) -> None:
    Path("photos").mkdir()
    shutil.copy(SCENES / "scene-0001.jpg", "photos")
    for command in (["eval"], ["train", "--out", "made", "--steps", "1"]):
        ran = bt(*command, captions(site), "--images", "photos", OPEN)
        assert f"{site.url}/scene-0002.jpg" in ran.err
    assert site.asked == []


def test_a_file_beside_the_captions_is_taken_before_its_address(bt: Bt, site: Site) -> None:
    shutil.copy(SCENES / "scene-0001.jpg", ".")
    assert bt("eval", captions(site, gone=False), OPEN).code == 0
    assert len(site.asked) == COUNT - 1


def test_training_learns_from_fetched_images_and_names_what_is_missing(bt: Bt, site: Site) -> None:
    steps = ["--steps", "4", "--batch-size", "4", "--seed", "3", "--dtype", "float32"]
    ran = bt("train", captions(site), "--out", "made", OPEN, *steps)
    assert ran.code == 0, ran.err
    assert f"skipped {site.url}/gone.jpg: the server says 404" in ran.err
    assert Path("made/model.safetensors").is_file()


def test_pairs_are_those_of_the_same_files(bt: Bt, site: Site) -> None:
    assert bt("encode", "pairs", captions(site), "-o", "web.parquet", OPEN, "--dtype", "float32").code == 0
    assert (
        bt("encode", "pairs", local_captions(), "--images", "photos", "-o", "own.parquet", "--dtype", "float32").code
        == 0
    )
    web, own = (pq.read_table(name) for name in ("web.parquet", "own.parquet"))
    assert web.column("image").to_pylist() == [f"{site.url}/scene-{number:04d}.jpg" for number in range(1, COUNT + 1)]
    np.testing.assert_allclose(
        np.stack(web.column("embedding").to_numpy()), np.stack(own.column("embedding").to_numpy()), atol=1e-6
    )


def test_scores_and_indexes_know_images_by_their_addresses(bt: Bt, site: Site) -> None:
    file = captions(site)
    ran = bt("score", "--pairs", file, OPEN, "--json")
    assert len(ran.out.splitlines()) == COUNT
    assert f"skipped {site.url}/gone.jpg" in ran.err
    Path("urls.txt").write_text("".join(f"{site.url}/scene-{number:04d}.jpg\n" for number in range(1, COUNT + 1)))
    for kind in ("--captions", "--pairs"):
        ran = bt("index", "urls.txt", kind, file, OPEN, "--index", f"made{kind}")
        assert ran.code == 0, ran.err
        assert f"1 of its {COUNT + 1} images are not in the index, {site.url}/gone.jpg first" in ran.err

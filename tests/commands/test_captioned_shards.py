"""Captions in tar shards, Parquet files and data sets, through the commands: what the folder gives."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from captioned_containers import Sample, write_data_set, write_rows, write_shard
from captioned_folder import captioned_folder, small_recipe
from object_store import parts_server

import bt_cli
from bt_cli.training.data import TrainingData
from bt_cli.training.sources import CaptionSource

if TYPE_CHECKING:
    from conftest import Ran

Bt = Callable[..., "Ran"]
SOURCES = ["folder", "{0..1}.tar", "z{0..1}.tar.gz", "p?.parquet", "set"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint_folder: Path) -> None:
    """Twelve captioned images: beside their texts in a folder, in shards, packed ones, Parquet parts, a data set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BT_MODEL", str(checkpoint_folder))
    monkeypatch.setenv("BT_DTYPE", "float32")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    captions = captioned_folder(tmp_path / "made").read_text().splitlines()[1:]
    samples: dict[str, Sample] = {}
    for name, text, _ in sorted(line.split(",") for line in captions):
        samples[name[:-4]] = Path("made", name).read_bytes(), [text]
    os.mkdir("folder")
    for key, (image, (text,)) in samples.items():
        Path("folder", f"{key}.png").write_bytes(image)
        Path("folder", f"{key}.txt").write_text(text)
    halves: list[dict[str, Sample]] = []
    for number in range(2):
        half: dict[str, Sample] = dict(list(samples.items())[number * 6 : number * 6 + 6])
        halves.append(half)
        write_shard(Path(f"{number}.tar"), half)
        write_shard(Path(f"z{number}.tar.gz"), half)
        write_rows(Path(f"p{number}.parquet"), half)
    write_data_set(Path("set"), *halves)


def record(ran: Ran) -> dict[str, Any]:
    assert ran.code == 0, ran.err
    return {name: value for name, value in ran.objects[-1].items() if name not in ("seconds", "images_per_second")}


def test_eval_gives_what_the_folder_gives(bt: Bt) -> None:
    whole, *others = (record(bt("eval", source, "--rerank", "--json", "--candidates", "10")) for source in SOURCES)
    assert (whole["images"], whole["captions"], whole["skipped"]) == (12, 12, 0)
    assert others == [whole] * 4
    assert record(bt("eval", "0.tar", "1.tar", "--rerank", "--json", "--candidates", "10")) == whole
    assert record(bt("eval", "folder", "--images", "{0..1}.tar", "--rerank", "--json", "--candidates", "10")) == whole
    assert bt("eval", "0.tar", "--run-out", "run").code == 0
    assert " 0.tar/blue-green.png " in Path("run").read_text()


def test_encode_gives_what_the_folder_gives(bt: Bt) -> None:
    for kind in ("captions", "pairs"):
        tables = []
        for number, source in enumerate(SOURCES):
            record(bt("encode", kind, source, "-o", f"{kind}{number}.parquet", "--json"))
            tables.append(pq.read_table(f"{kind}{number}.parquet"))
        for table in tables[1:]:
            assert table.column("caption").to_pylist() == tables[0].column("caption").to_pylist()
            assert table.column("embedding").to_pylist() == tables[0].column("embedding").to_pylist()
        assert tables[1].column("image").to_pylist()[:2] == ["0.tar/blue-green.png", "0.tar/blue-red.png"]
        assert tables[3].column("image").to_pylist()[:2] == ["p0.parquet/000000000", "p0.parquet/000000001"]
        place = "set/" if kind == "pairs" else ""
        assert tables[4].column("image").to_pylist()[6] == f"{place}data-00001-of-00002.arrow/000000000"


@pytest.mark.parametrize("source", SOURCES)
def test_index_finds_captions_and_their_images(bt: Bt, source: str) -> None:
    made = record(bt("index", source, "--captions", source, "--json"))
    assert (made["added"], made["captions"]) == (12, 12)
    ran = bt("search", "red then white", "--to", "captions", "-k", "12", "--json")
    found = {hit["caption"]: hit["path"] for hit in ran.objects}
    assert len(found) == 12
    if source == "set":
        assert found["blue then green"] == "set/data-00000-of-00002.arrow/000000000"
    elif "parquet" not in source:
        assert all(Path(path).name == text.replace(" then ", "-") + ".png" for text, path in found.items())
    else:
        assert found["blue then green"] == "p0.parquet/000000000"
    assert record(bt("index", "--json"))["captions"] == 12


def test_index_of_pairs(bt: Bt) -> None:
    made = record(bt("index", "{0..1}.tar", "--pairs", "{0..1}.tar", "--json"))
    assert (made["added"], made["captions"], made["skipped"]) == (12, 12, 0)


@pytest.mark.parametrize("source", SOURCES[1:4])
def test_score_reads_pairs_out_of_containers(bt: Bt, source: str) -> None:
    first = source.replace("{0..1}", "0").replace("?", "0")
    wanted = {line["text"]: line["itm_logit"] for line in bt("score", "--pairs", "folder", "--json").objects}
    lines = bt("score", "--pairs", first, "--json").objects
    assert len(lines) == 6
    for line in lines:
        assert line["itm_logit"] == pytest.approx(wanted[line["text"]], abs=1e-5)
        assert line["image"].startswith(f"{first}/")


def test_training_reads_what_it_reads_from_the_folder(checkpoint_folder: Path) -> None:
    processor = bt_cli.load(checkpoint_folder).image_processor
    batches, shares = [], []
    for source in SOURCES:
        train, held_out = TrainingData(source).read(seed=1)
        shares.append(([item.text for item in train], [item.text for item in held_out]))
        batches.append(CaptionSource(train, processor).batch(0, 8, slice(0, 8)))
    assert [len(share) for share in shares[0]] == [11, 1]
    assert shares[1:] == [shares[0]] * 4
    for batch in batches[1:]:
        assert batch.captions == batches[0].captions
        assert batch.pixel_values.equal(batches[0].pixel_values)


def test_training_from_one_shard_measured_on_another(bt: Bt) -> None:
    recipe = small_recipe()
    recipe["stages"] = [{**recipe["stages"][0], "steps": 1}]
    Path("recipe.json").write_text(json.dumps(recipe))
    command = ("train", "0.tar", "--validation", "p1.parquet", "--recipe", "recipe.json", "--device", "cpu")
    ran = bt(*command, "--out", "out", "--json")
    assert ran.code == 0, ran.err
    assert (ran.objects[-1]["steps"], ran.objects[-1]["skipped"]) == (1, 0)


@pytest.fixture
def site() -> Iterator[str]:
    """The address of a server of all that lies in the folder."""
    with parts_server() as server:
        server.files |= {f"/{path.name}": path.read_bytes() for path in Path().iterdir() if path.is_file()}
        yield server.url


OPEN = "--allow-private-urls"


@pytest.mark.parametrize("source", ["{0..1}.tar", "z{0..1}.tar.gz", "p{0..1}.parquet"])
@pytest.mark.parametrize("command", ["eval", "captions", "pairs"])
def test_captions_on_the_web_are_read_when_it_is_allowed(bt: Bt, site: str, source: str, command: str) -> None:
    asked = ("eval", "--rerank", "--candidates", "10") if command == "eval" else ("encode", command, "-o", "x.parquet")
    here = record(bt(*asked, source, "--json"))
    local = None if command == "eval" else pq.read_table("x.parquet")
    Path("x.parquet").unlink(missing_ok=True)
    url = f"{site}/{source}"
    refused = bt(*asked, url)
    assert (refused.code, refused.out, os.path.exists("x.parquet")) == (1, "", False)
    assert refused.err.count("not a public address; --allow-private-urls") == len(refused.err.splitlines()) == 1
    assert "no Parquet" not in refused.err
    assert record(bt(*asked, url, OPEN, "--json")) == here
    if local is not None:
        table = pq.read_table("x.parquet")
        for column in ("caption", "embedding"):
            assert table.column(column).equals(local.column(column))
        assert table.column("image")[0].as_py() == f"{site}/{local.column('image')[0].as_py()}"


def test_training_on_captions_on_the_web(bt: Bt, site: str) -> None:
    recipe = small_recipe()
    recipe["stages"] = [{**recipe["stages"][0], "steps": 2}]
    Path("recipe.json").write_text(json.dumps(recipe))
    weights = []
    for out, train, held_out in (
        ("here", "0.tar", "p1.parquet"),
        ("there", f"{site}/0.tar", f"{site}/p1.parquet"),
    ):
        command = ("train", train, "--validation", held_out, "--recipe", "recipe.json", "--device", "cpu", "--out", out)
        if out == "there":
            refused = bt(*command)
            assert (refused.code, refused.out, os.path.exists(out)) == (1, "", False)
            assert refused.err.count("not a public address; --allow-private-urls") == 1
            command = (*command, OPEN)
        assert record(bt(*command, "--json"))["skipped"] == 0
        weights.append(Path(out, "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_images_of_a_caption_file_on_the_web(bt: Bt, site: str) -> None:
    lines = [f"{path.name},{path.read_text()}" for path in sorted(Path("folder").glob("*.txt"))[:6]]
    Path("captions.csv").write_text("image,caption\n" + "\n".join(lines).replace(".txt,", ".png,") + "\n")
    here = record(bt("eval", "captions.csv", "--images", "folder", "--json"))
    assert "--allow-private-urls" in bt("eval", "captions.csv", "--images", f"{site}/0.tar").err
    assert record(bt("eval", "captions.csv", "--images", f"{site}/0.tar", OPEN, "--json")) == here


def test_labels_for_images_on_the_web(bt: Bt, site: str) -> None:
    asked = ("--labels", "red,white", "--json")
    refused = bt("label", f"{site}/0.tar", *asked)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.count("not a public address; --allow-private-urls") == len(refused.err.splitlines()) == 1
    here = bt("label", "0.tar", *asked).objects
    there = bt("label", f"{site}/0.tar", OPEN, *asked).objects
    assert [{**line, "path": f"{site}/{line['path']}"} for line in here] == there
    assert len(here) >= 6

"""`bt index`, `bt encode` and `bt info`, with a checkpoint of random weights: whole outputs and exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image
from random_checkpoint import random_checkpoint

from bt_cli.commands import info
from bt_cli.files.lock import WriterLock
from bt_cli.store.index_folder import IndexFolder
from bt_cli.store.index_writer import IndexWriter

TIME = re.compile(r"in [\d.]+ s, on cpu in float32, [\d.,]+ images/s, limited by (the model|image decoding)")


def without_time(err: str) -> str:
    """Stderr with what varies taken out."""
    return re.sub(r"in [\d.]+ s", "in TIME", TIME.sub("in TIME", err))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint_folder: Path) -> Path:
    """The working directory, with three pictures, and the random checkpoint by default."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BT_MODEL", str(checkpoint_folder))
    monkeypatch.setenv("BT_DTYPE", "float32")
    generator = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b b.png", "c.png"):
        pixels = generator.integers(0, 255, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    return tmp_path


def test_a_first_index_and_an_update(bt, home: Path) -> None:
    ran = bt("index", "photos")
    assert (ran.code, ran.out) == (0, "")
    assert without_time(ran.err) == f"bt: 3 images in .bt by {os.environ['BT_MODEL']} (3 added) in TIME\n"
    (home / "photos/c.png").unlink()
    ran = bt("index", "--json")
    assert ran.code == 0
    record = ran.objects[0]
    assert isinstance(record.pop("seconds"), float)
    assert record == {
        "added": 0,
        "updated": 0,
        "removed": 1,
        "unchanged": 2,
        "skipped": 0,
        "images_per_second": 0.0,
        "index": ".bt",
        "encoded": 0,
        "captions": 0,
        "uncaptioned": 0,
        "incomplete": 0,
        "passed_over": {},
        "excluded": 0,
        "captions_skipped": 0,
    }
    assert (
        without_time(ran.err) == f"bt: 2 images in .bt by {os.environ['BT_MODEL']} (1 removed, 2 unchanged) in TIME\n"
    )


def test_an_index_of_pairs(bt, home: Path, checkpoint_folder: Path) -> None:
    import bt_cli

    (home / "c.csv").write_text("image,caption\na.png,one thing\nb b.png,another\nb b.png,and more\n")
    ran = bt("index", "photos", "--pairs", "c.csv")
    assert (ran.code, ran.out) == (0, "")
    assert without_time(ran.err) == (
        "bt: 1 image without a caption left out: the index embeds images with their captions; --mixed takes the others "
        f"alone\nbt: 2 images in .bt by {checkpoint_folder} (2 added), 3 captions in TIME\n"
    )
    model = bt_cli.load(checkpoint_folder, dtype="float32")
    a, b = "photos/a.png", "photos/b b.png"
    one, another, more = model.encode_pairs([a, b, b], ["one thing", "another", "and more"])
    both = (another + more) / np.linalg.norm(another + more)
    table = pyarrow.parquet.read_table(".bt/images.parquet")
    assert table.column("path").to_pylist() == [a, b]
    found = np.array(table.column("embedding").to_pylist(), np.float32)
    np.testing.assert_allclose(found, np.stack([one, both]), atol=2e-3)
    assert table.schema.metadata[b"bt.kind"] == b"pairs"
    assert "embeds         pairs" in bt("info").out
    hits = bt("search", "one thing", "--json").objects
    text = model.encode_texts(["one thing"])[0]
    assert {hit["path"]: hit["itc"] for hit in hits} == pytest.approx({a: one @ text, b: both @ text}, abs=2e-3)
    assert len(bt("search", "another", "--to", "captions", "--json").objects) == 3
    refused = bt("index", "--captions", "c.csv")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == (
        "bt: index .bt: its images are embedded with their captions; give these with --pairs CAPTIONS\n"
    )
    again = bt("index", "--json").objects[0]
    assert (again["encoded"], again["unchanged"], again["uncaptioned"]) == (0, 2, 1)


@pytest.mark.parametrize(("side", "said"), [(384, 0), (500, 1)])
def test_tiny_says_once_that_it_knows_no_photographs(bt, home: Path, side: int, said: int) -> None:
    for name in ("x.png", "y.png"):
        Image.new("RGB", (side, 60), "red").save(home / "photos" / name)
    ran = bt("index", "photos", "--model", "tiny")
    assert ran.code == 0
    assert (
        ran.err.count("tiny knows small drawn scenes and no photographs; for these bt index --rebuild --model") == said
    )
    assert "photographs" not in bt("index", "--model", "tiny").err


def test_pairs_need_the_cross_modal_head(bt, home: Path, tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "itc", heads=("itc",))
    (home / "c.csv").write_text("image,caption\na.png,one thing\n")
    ran = bt("index", "photos", "--pairs", "c.csv", "--model", tmp_path / "itc")
    assert (ran.code, ran.out) == (1, "")
    assert "has no cross-modal ITC head (its heads: ITC), so it embeds no pairs" in ran.err
    assert not (home / ".bt").exists()


def test_what_is_stored_is_what_the_model_says(bt, home: Path, checkpoint_folder: Path) -> None:
    import bt_cli

    (home / "captions.csv").write_text("image,caption\na.png,one thing\nb b.png,another\n")
    assert (
        bt("index", "photos", "--captions", "captions.csv", "--store-dtype", "float32", "--batch-size", "2").code == 0
    )
    model = bt_cli.load(str(checkpoint_folder), dtype="float32")
    names = ["photos/a.png", "photos/b b.png", "photos/c.png"]
    with IndexFolder.open(".bt") as index:
        assert index.paths(range(3)) == names
        assert np.abs(index.vectors_of(np.arange(3)) - model.encode_images(names)).max() < 1e-5
        assert index.captions is not None
        assert index.captions.texts([0, 1]) == ["one thing", "another"]
        assert index.captions.image_ids([0, 1]).tolist() == [0, 1]
        assert (
            np.abs(index.captions.vectors_of(np.arange(2)) - model.encode_texts(["one thing", "another"])).max() < 1e-5
        )
        row = index.table().to_pylist()[0]
        assert (row["width"], row["height"]) == (32, 24)


def test_a_file_that_is_no_image(bt, home: Path) -> None:
    (home / "photos/bad.jpg").write_bytes(b"no image")
    bad = home / "photos/bad.jpg"
    ran = bt("index", "photos")
    assert ran.code == 0
    first, last = without_time(ran.err).splitlines()
    assert first.startswith(f"bt: skipped {bad}: ")
    assert last == f"bt: 3 images in .bt by {os.environ['BT_MODEL']} (3 added) in TIME, 1 skipped"
    ran = bt("index", "photos", "--strict")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"bt: {bad}: ")
    assert bt("index", "photos", "--json", "--quiet").objects[0]["skipped"] == 1


def test_the_index_above_is_taken_and_a_named_one_before_it(bt, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bt("index", "photos")
    monkeypatch.chdir(home / "photos")
    assert bt("index", "--json").objects[0]["index"] == str(home / ".bt")
    assert bt("index", ".", "--index", "own", "--json").objects[0] | {"seconds": 0, "images_per_second": 0} == {
        "added": 3,
        "updated": 0,
        "removed": 0,
        "unchanged": 0,
        "skipped": 0,
        "seconds": 0,
        "images_per_second": 0,
        "index": "own",
        "encoded": 3,
        "captions": 0,
        "uncaptioned": 0,
        "incomplete": 0,
        "passed_over": {},
        "excluded": 0,
        "captions_skipped": 0,
    }


def test_what_can_go_wrong(bt, home: Path) -> None:
    (home / "empty").mkdir()
    (home / "text").write_text("x")
    for arguments, code, message in [
        (["index"], 2, "nothing to index: name the folders or files, as in bt index FOLDER"),
        (["index", "nowhere"], 1, "nowhere: no such file or folder"),
        (
            ["index", "empty"],
            1,
            f"{home}/empty: no images there",
        ),
        (["index", "photos", "--captions", "none.csv"], 1, "none.csv: no such file"),
        (["index", "photos", "--index", "text/.bt"], 1, "text/.bt: can't be written: Not a directory\n"),
        (["index", "photos", "--index", "text"], 1, "text: is a file, and an index is a folder"),
        (["index", "photos", "--index", ""], 2, "invalid value for '--index' (env var: 'BT_INDEX'): the name is empty"),
        (["index", "photos", "--factory", "PQ3"], 2, "--factory PQ3: FAISS knows no such index for 32 dimensions"),
        (["encode", "images", "empty", "-o", "x.parquet"], 1, "empty: no images there"),
        (["info", "--index", "nowhere"], 1, "nowhere: no index here; bt index FOLDER --index nowhere makes one"),
    ]:
        ran = bt(*arguments)
        assert (ran.code, ran.out) == (code, ""), arguments
        assert ran.err.startswith(f"bt: {message}"), ran.err
        assert ran.err.count("\n") == 1, ran.err
    assert not (home / "x.parquet").exists()
    assert not list((home / ".bt").glob("journal*")), "a wrong factory is refused before anything is encoded"


def test_an_index_that_is_being_written(bt, home: Path) -> None:
    bt("index", "photos")
    with WriterLock(home / ".bt"):
        ran = bt("index", "photos")
        assert ran.code == 1
        assert re.fullmatch(
            rf"bt: \.bt: process {os.getpid()} on .* is writing this index; wait until it is done\n", ran.err
        )
        assert bt("search", "a", "--paths").code == 0


def test_an_interrupt_keeps_what_was_encoded(bt, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(IndexWriter, "commit", interrupt)
        ran = bt("index", "photos")
    assert ran.code == 130
    assert ran.err == "bt: what was encoded is kept; the same command goes on from there\nbt: interrupted\n"
    assert bt("index", "photos", "--json").objects[0]["encoded"] == 0


def test_another_checkpoint(bt, home: Path) -> None:
    bt("index", "photos")
    ran = bt("index", "photos", "--model", "tiny")
    assert ran.code == 1
    assert re.match(r"bt: index \.bt: made by checkpoint .*, not tiny; use --model .*, or bt index --rebuild", ran.err)
    ran = bt("index", "--model", "tiny", "--rebuild", "--json")
    assert ran.objects[0]["encoded"] == 3
    assert bt("info", "--json").objects[0]["checkpoint"] == "tiny"


def test_a_factory_of_ones_own_is_kept_until_auto(bt, home: Path) -> None:
    bt("index", "photos", "--factory", "HNSW4,Flat")
    assert bt("info", "--json").objects[0]["faiss"] == "HNSW4,Flat"
    (home / "photos/a.png").unlink()
    bt("index")
    assert bt("info", "--json").objects[0]["faiss"] == "HNSW4,Flat"
    assert len(bt("search", "x", "--json", "--quiet").objects) == 2
    bt("index", "--factory", "AUTO")
    assert bt("info", "--json").objects[0]["faiss"] == "exact"


def test_encode_images(bt, home: Path, checkpoint_folder: Path) -> None:
    import bt_cli

    (home / "photos/bad.jpg").write_bytes(b"no image")
    ran = bt("encode", "images", "photos", "-o", "out/x.parquet", "--json")
    assert ran.code == 0
    assert {key: ran.objects[0][key] for key in ("added", "skipped", "index")} == {
        "added": 3,
        "skipped": 1,
        "index": "out/x.parquet",
    }
    table = pyarrow.parquet.read_table("out/x.parquet")
    assert table.column("path").to_pylist() == ["photos/a.png", "photos/b b.png", "photos/c.png"]
    model = bt_cli.load(str(checkpoint_folder), dtype="float32")
    expected = model.encode_images(table.column("path").to_pylist())
    assert np.abs(np.array(table.column("embedding").to_pylist()) - expected).max() < 1e-3
    assert table.schema.metadata[b"bt.checkpoint"].decode() == str(checkpoint_folder)
    assert not (home / ".bt").exists()
    ran = bt("encode", "images", "photos", "-o", "y.parquet", "--strict")
    assert (ran.code, (home / "y.parquet").exists()) == (1, False)


def test_encode_captions(bt, home: Path) -> None:
    (home / "c.jsonl").write_text('{"image": "a.png", "caption": "one", "id": 4}\n{"caption": "two"}\n')
    ran = bt("encode", "captions", "c.jsonl", "-o", "x.parquet", "--store-dtype", "float32")
    assert ran.code == 0
    assert without_time(ran.err).startswith("bt: 2 captions in x.parquet in TIME")
    rows = pyarrow.parquet.read_table("x.parquet").to_pylist()
    assert [(row["caption"], row["image"], row["caption_id"]) for row in rows] == [
        ("one", "a.png", "4"),
        ("two", None, None),
    ]
    assert np.linalg.norm(rows[0]["embedding"]) == pytest.approx(1, abs=1e-6)


def test_encode_pairs(bt, home: Path, checkpoint_folder: Path) -> None:
    import bt_cli

    lines = ["image,caption", "a.png,one thing", "c.png,another", "bad.png,third", "a.png,one more"]
    (home / "c.csv").write_text("\n".join(lines) + "\n")
    (home / "photos/bad.png").write_bytes(b"no image")
    ran = bt("encode", "pairs", "c.csv", "--images", "photos", "-o", "x.parquet", "--store-dtype", "float32", "--json")
    assert ran.code == 0
    assert {key: ran.objects[0][key] for key in ("added", "skipped", "index")} == {
        "added": 3,
        "skipped": 1,
        "index": "x.parquet",
    }
    assert "bad.png" in ran.err
    table = pyarrow.parquet.read_table("x.parquet")
    assert table.column("caption").to_pylist() == ["one thing", "another", "one more"]
    paths = table.column("image").to_pylist()
    assert paths == ["photos/a.png", "photos/c.png", "photos/a.png"]
    assert table.schema.metadata[b"bt.kind"] == b"pairs"
    model = bt_cli.load(str(checkpoint_folder), dtype="float32")
    rows = np.array(table.column("embedding").to_pylist())
    assert np.abs(rows - model.encode_pairs(paths, table.column("caption").to_pylist())).max() < 1e-5
    ran = bt("encode", "pairs", "c.csv", "--images", "photos", "-o", "y.parquet", "--strict")
    assert (ran.code, (home / "y.parquet").exists()) == (1, False)
    (home / "t.txt").write_text("only a text\n")
    ran = bt("encode", "pairs", "t.txt", "-o", "y.parquet")
    assert (ran.code, ran.err) == (1, "bt: t.txt: no caption names an image, so there are no pairs\n")


def test_tables_say_what_they_hold(bt, home: Path) -> None:
    (home / "c.txt").write_text("one thing\n")
    for kind, source in (("images", "photos"), ("captions", "c.txt")):
        assert bt("encode", kind, source, "-o", "x.parquet").code == 0
        assert pyarrow.parquet.read_schema("x.parquet").metadata[b"bt.kind"].decode() == kind


def test_info(bt, home: Path, checkpoint_folder: Path) -> None:
    ran = bt("info", "--json")
    assert ran.code == 0
    assert set(ran.objects[0]) == {"index", "device", "precision", "versions"}
    assert ran.objects[0]["index"] is None
    assert ran.err == f"bt: no index in {home} or above; bt index FOLDER makes one\n"
    bt("index", "photos")
    ran = bt("info", "--json")
    (record,) = ran.objects
    assert len(ran.out.splitlines()) == 1
    wanted = {
        "index": str(home / ".bt"),
        "images": 3,
        "captions": 0,
        "roots": ["photos"],
        "checkpoint": str(checkpoint_folder),
        "made_in": "float32",
        "store_dtype": "float16",
        "faiss": "exact",
        "device": "cpu",
        "precision": "float32",
        "generation": 1,
    }
    assert {key: record[key] for key in wanted} == wanted
    assert {"bt", "python", "torch", "faiss-cpu", "pyarrow"} <= set(record["versions"])
    assert json.loads((home / ".bt/manifest.json").read_text())["identity"]["fingerprint"] == record["fingerprint"]
    shown = bt("info")
    assert (shown.code, shown.err) == (0, "")
    assert f"checkpoint     {checkpoint_folder}" in shown.out
    assert "encoded in     float32\nstored in      float16\nFAISS index    exact\nindex choice   3 x " in re.sub(
        r"dimension .*\n", "", shown.out
    )


def test_info_counts_the_files_that_are_still_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a").write_bytes(b"12345")
    (tmp_path / "b").write_bytes(b"123")
    walked = list(os.walk(tmp_path))
    (tmp_path / "b").unlink()  # by a writer, between the listing and the look at the file
    monkeypatch.setattr(os, "walk", lambda folder: iter(walked))
    assert info._bytes_below(tmp_path) == 5


def test_what_is_passed_over_and_left_out_is_counted(bt, home: Path) -> None:
    for name in ("notes.txt", "a.mp4", "b.mp4", "drawing.svg", "@eaDir/t.png", "raw/x.png"):
        (home / "photos" / name).parent.mkdir(exist_ok=True)
        (home / "photos" / name).write_bytes(b"no image")
    (home / "photos/a.png").rename(home / "photos/shot at 10.15.30")
    ran = bt("index", "photos", "--exclude", "raw", "--json")
    assert ran.code == 0
    (record,) = ran.objects
    assert (record["added"], record["skipped"], record["excluded"]) == (3, 0, 2)
    assert record["passed_over"] == {".mp4": 2, ".svg": 1, ".txt": 1}
    assert without_time(ran.err) == (
        f"bt: 3 images in .bt by {os.environ['BT_MODEL']} (3 added) in TIME; "
        "4 files passed over: 2 .mp4, 1 .svg, 1 .txt; 2 files and folders excluded\n"
    )
    assert bt("index", "--json", "--quiet").objects[0]["excluded"] == 2, "what is left out is remembered"
    ran = bt("index", "--exclude", "", "--no-default-excludes")
    assert ran.code == 0
    assert "bt: skipped 2 more" not in ran.err
    assert len(re.findall(r"bt: skipped .*: not an image that can be read", ran.err)) == 2
    ran = bt("encode", "images", "photos", "-o", "x.parquet", "--exclude", "raw", "--json")
    assert {key: ran.objects[0][key] for key in ("encoded", "excluded")} == {"encoded": 3, "excluded": 2}
    ran = bt("index", "photos", "--exclude", "!")
    assert (ran.code, ran.err.startswith("bt: --exclude !: "), ran.err.count("\n")) == (2, True, 1)


def test_nothing_that_can_be_read_is_a_failure_and_leaves_nothing(bt, home: Path) -> None:
    (home / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    (home / "notes.txt").write_text("no image")
    for name in ("broken.jpg", "notes.txt"):
        ran = bt("index", name)
        assert (ran.code, ran.out) == (1, "")
        assert re.fullmatch(rf"bt: {home}/{name}: .*; nothing was written\n", ran.err), ran.err
        assert not (home / ".bt").exists()
        ran = bt("encode", "images", name, "-o", "x.parquet")
        assert (ran.code, (home / "x.parquet").exists()) == (1, False)


def test_a_truncated_picture_is_taken_and_told(bt, home: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 100, 3), np.uint8)
    Image.fromarray(noise).save(home / "photos/cut.jpg")
    content = (home / "photos/cut.jpg").read_bytes()
    (home / "photos/cut.jpg").write_bytes(content[: len(content) * 9 // 10])
    ran = bt("index", "photos", "--json")
    assert (ran.code, ran.objects[0]["added"], ran.objects[0]["incomplete"]) == (0, 4, 1)
    first, last = without_time(ran.err).splitlines()
    assert re.fullmatch(rf"bt: {home}/photos/cut\.jpg: truncated, the last 1\d\.\d% of its rows are filled in", first)
    assert last == f"bt: 4 images in .bt by {os.environ['BT_MODEL']} (4 added) in TIME, 1 incomplete"


def test_a_bridge_cache_without_end_is_refused(bt, home: Path) -> None:
    ran = bt("index", "photos", "--bridge-cache", "inf")
    assert (ran.code, ran.out, ran.err) == (2, "", "bt: --bridge-cache is inf, but has to be a number of GiB\n")
    assert bt("index", "photos", "--bridge-cache", "nan").code == 2
    assert not (home / ".bt").exists()


def test_a_table_goes_into_a_pipe_and_through_a_link(bt, home: Path) -> None:
    os.mkfifo(home / "pipe")
    (home / "old.parquet").write_text("old")
    (home / "link.parquet").symlink_to("old.parquet")
    with subprocess.Popen(["cat", str(home / "pipe")], stdout=subprocess.PIPE) as reader:
        assert bt("encode", "images", "photos", "-o", "pipe").code == 0
        assert reader.stdout is not None
        piped = reader.stdout.read()
    assert (home / "pipe").is_fifo()
    assert pyarrow.parquet.read_table(pyarrow.BufferReader(piped)).num_rows == 3
    assert bt("encode", "images", "photos", "-o", "link.parquet").code == 0
    assert (home / "link.parquet").is_symlink()
    assert pyarrow.parquet.read_table(home / "old.parquet").num_rows == 3


def test_damage_is_found_by_verify_and_mended_by_an_update(bt, home: Path) -> None:
    bt("index", "photos")
    ran = bt("info", "--verify", "--json")
    assert (ran.code, ran.err) == (0, "bt: every byte of 5 files is what was written\n")
    vectors = home / ".bt/vectors-000001.faiss"
    content = bytearray(vectors.read_bytes())
    content[-1] ^= 1
    vectors.write_bytes(content)
    ran = bt("info", "--verify")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        f"bt: {home}/.bt/vectors-000001.faiss: damaged; bt index --verify mends it where its table is whole, --rebuild "
        "makes it anew\n"
    )
    ran = bt("index", "--json")
    assert (ran.code, ran.objects[0]["encoded"], ran.objects[0]["unchanged"]) == (0, 0, 3)
    assert ".bt: damaged, and made anew from what is whole: " in ran.err
    assert bt("info", "--verify").code == 0


def test_a_change_that_kept_size_and_time_is_found_by_verify(bt, home: Path) -> None:
    bt("index", "photos")
    file = home / "photos/a.png"
    times, content = file.stat().st_mtime_ns, file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(file, ns=(times, times))
    assert bt("index", "--json").objects[0]["unchanged"] == 3
    assert bt("index", "--verify", "--json").objects[0]["unchanged"] == 2


def test_one_piece_for_other_programs(bt, home: Path) -> None:
    bt("index", "photos")
    assert pyarrow.parquet.read_table(home / ".bt/images.parquet").num_rows == 3
    assert bt("index", "--compact").code == 0
    assert (home / ".bt/images.parquet").is_symlink()

"""`bt eval` from end to end: every figure against the model's own scores, every file, every refusal."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from random_checkpoint import random_checkpoint

import bt_cli
from bt_cli.datasets import trec
from bt_cli.metrics import recall

IMAGES = 16
COLOURS = ["red", "green", "blue", "white", "black", "pink", "grey", "brown"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return random_checkpoint(tmp_path_factory.mktemp("model") / "both")


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """Pictures of noise with two captions each, one of which several pictures share; names with a space."""
    folder = tmp_path_factory.mktemp("album")
    rng = np.random.default_rng(0)
    lines = ["image,caption"]
    for number in range(IMAGES):
        name = f"picture {number:02d}.png"
        Image.fromarray(rng.integers(0, 255, (70, 90, 3), np.uint8)).save(folder / name)
        lines.append(f"{name},a {COLOURS[number % 8]} thing {number}")
        lines.append(f"{name},something {COLOURS[number % 8]}")
    (folder / "captions.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def truth(checkpoint, album):
    """Dense score matrices (images, captions) straight from the model, and each caption's image."""
    model = bt_cli.load(checkpoint, dtype="float32")
    paths = sorted(str(path) for path in album.glob("*.png"))
    rows = [line.split(",") for line in (album / "captions.csv").read_text().splitlines()[1:]]
    texts = [text for _, text in rows]
    unique = sorted(set(texts))  # equal captions have equal embeddings, and equal products in float64
    rows = model.encode_texts(unique)[[unique.index(text) for text in texts]]
    itc = (model.encode_images(paths).astype(np.float64) @ np.asarray(rows).T.astype(np.float64)).astype(np.float32)
    return itc, model.score(paths, texts), [c // 2 for c in range(len(texts))]


def candidates_of(itc, k):
    """The published protocol's candidates, as a dense mask."""
    mask = np.zeros(itc.shape, bool)
    for i, row in enumerate(itc):
        mask[i, np.argsort(-row, kind="stable")[:k]] = True
    for c, column in enumerate(itc.T):
        mask[np.argsort(-column, kind="stable")[:k], c] = True
    return mask


def close(metrics):
    return pytest.approx(metrics, abs=1e-12)


def test_the_contrastive_stage_alone(bt, checkpoint, album, truth):
    ran = bt("eval", album / "captions.csv", "--model", checkpoint, "--dtype", "float32", "--json")
    (found,) = ran.objects
    itc, _, owner = truth
    assert found.pop("seconds") > 0
    assert found == {
        "images": 16,
        "captions": 32,
        "model": str(checkpoint),
        "reranker": None,
        "candidates": None,
        "combine": "itm",
        "pairs": 0,
        "skipped": 0,
        "captions_skipped": 0,
        "device": "cpu",
        "precision": "float32",
        "itc": close(recall.metrics_from_scores(itc, owner)),
        "itm": None,
    }
    assert ran.code == 0
    assert re.fullmatch(r"bt: 16 images and 32 captions: evaluated in [\d.]+ s, on cpu in float32\n", ran.err)


def test_reranking_the_candidates(bt, checkpoint, album, truth):
    arguments = [
        "eval",
        album / "captions.csv",
        "--images",
        album,
        "--model",
        checkpoint,
        "--dtype",
        "float32",
        "--json",
    ]
    ran = bt(*arguments, "--rerank", "--candidates", "10")
    (found,) = ran.objects
    itc, itm, owner = truth
    mask = candidates_of(itc, 10)
    assert found["itc"] == close(recall.metrics_from_scores(itc, owner))
    assert found["itm"] == close(recall.metrics_from_scores(np.where(mask, itm, -100), owner))
    assert (found["pairs"], found["candidates"]) == (np.count_nonzero(mask), 10)
    pairs = np.count_nonzero(mask)
    assert f"16 images and 32 captions, {pairs} pairs (the best 10 each way) ranked by itm: evaluated in" in ran.err
    (summed,) = bt(*arguments, "--rerank", "--candidates", "10", "--combine", "itm+itc").objects
    assert summed["itm"] == close(recall.metrics_from_scores(np.where(mask, itm + itc, -100), owner))
    assert found["itm"] != found["itc"]


def test_all_candidates_are_the_exhaustive_protocol(bt, checkpoint, album, truth):
    arguments = ["eval", album / "captions.csv", "--model", checkpoint, "--dtype", "float32", "--json"]
    (every,) = bt(*arguments, "--exhaustive").objects
    (many,) = bt(*arguments, "--rerank").objects
    _, itm, owner = truth
    assert every["itm"] == close(recall.metrics_from_scores(itm, owner))
    assert many["itm"] == every["itm"]
    assert (every["candidates"], many["candidates"], every["pairs"], many["pairs"]) == (None, 128, 512, 512)


def test_the_table_is_in_percent(bt, checkpoint, album, truth):
    itc, itm, owner = truth
    ran = bt("eval", album / "captions.csv", "--model", checkpoint, "--dtype", "float32", "--exhaustive", "--quiet")
    lines = ran.out.splitlines()
    assert re.split(r"  +", lines[0]) == [
        *("percent", "TR@1", "TR@5", "TR@10", "IR@1", "IR@5", "IR@10", "RSUM", "TR MRR", "IR MRR"),
        *("TR median rank", "IR median rank"),
    ]
    for line, stage, scores in zip(lines[1:], ("ITC", "ITM"), (itc, itm), strict=True):
        metrics = recall.metrics_from_scores(scores, owner)
        shares = ("tr@1", "tr@5", "tr@10", "ir@1", "ir@5", "ir@10", "rsum", "tr_mrr", "ir_mrr")
        ranks = ("tr_median_rank", "ir_median_rank")
        cells = [f"{100 * metrics[name]:.1f}" for name in shares] + [f"{metrics[name]:g}" for name in ranks]
        assert line.split() == [stage, *cells]
    assert (ran.code, ran.err) == (0, "")


def test_two_checkpoints_and_one_without_itc(bt, checkpoint, album, truth, tmp_path):
    itc, itm, owner = truth
    reader = random_checkpoint(tmp_path / "reader", heads=("itm", "mlm"), seed=1)
    scores = bt_cli.load(reader, dtype="float32").score(
        sorted(map(str, album.glob("*.png"))),
        [line.split(",")[1] for line in (album / "captions.csv").read_text().splitlines()[1:]],
    )
    arguments = ["eval", album / "captions.csv", "--dtype", "float32", "--json"]
    ran = bt(*arguments, "--model", checkpoint, "--reranker", reader, "--rerank", "--candidates", "10")
    (found,) = ran.objects
    assert found["itc"] == close(recall.metrics_from_scores(itc, owner))
    assert found["itm"] == close(recall.metrics_from_scores(np.where(candidates_of(itc, 10), scores, -100), owner))
    assert (found["model"], found["reranker"]) == (str(checkpoint), str(reader))

    (alone,) = bt(*arguments, "--model", reader, "--exhaustive").objects
    assert (alone["itc"], alone["model"], alone["reranker"]) == (None, None, str(reader))
    assert alone["itm"] == close(recall.metrics_from_scores(scores, owner))

    refused = bt(*arguments, "--model", reader)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == (
        f"bt: {reader} has no ITC head (its heads: ITM, MLM); for search use one that has it, such as "
        "BridgeTower/bridgetower-large-itm-mlm-itc or tiny\n"
    )
    both = bt(*arguments, "--model", reader, "--exhaustive", "--combine", "itm+itc")
    assert (both.code, both.err) == (2, f"bt: --combine itm+itc needs an ITC head, which {reader} lacks\n")


def test_the_files_give_ranx_our_values(bt, checkpoint, album, tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    ranx = pytest.importorskip("ranx")
    files = {name: tmp_path / "out" / name for name in ("ir.run", "ir.qrels", "ir.tsv", "tr.run", "tr.qrels")}
    ran = bt(
        *("eval", album / "captions.csv", "--model", checkpoint, "--dtype", "float32", "--json"),
        *("--rerank", "--candidates", "10", "--run-out", files["ir.run"], "--qrels-out", files["ir.qrels"]),
        *("--tr-run-out", files["tr.run"], "--tr-qrels-out", files["tr.qrels"], "--queries-out", files["ir.tsv"]),
    )
    (found,) = ran.objects
    for way in ("tr", "ir"):
        theirs = ranx.evaluate(
            ranx.Qrels.from_file(str(files[f"{way}.qrels"]), kind="trec"),
            ranx.Run.from_file(str(files[f"{way}.run"]), kind="trec"),
            ["hit_rate@1", "hit_rate@5", "hit_rate@10", "mrr"],
        )
        for measure, key in {"hit_rate@1": "@1", "hit_rate@5": "@5", "hit_rate@10": "@10", "mrr": "_mrr"}.items():
            assert found["itm"][way + key] == pytest.approx(theirs[measure], abs=1e-9)
    run = trec.read_run(files["ir.run"])
    assert list(run)[:3] == ["picture%2000.png#0", "picture%2000.png#1", "picture%2001.png#0"]
    assert [len(entries) for entries in run.values()] == [16] * 32
    assert trec.read_queries(files["ir.tsv"])["picture%2001.png#1"] == "something green"
    assert trec.read_qrels(files["tr.qrels"])["picture%2003.png"] == {"picture%2003.png#0": 1, "picture%2003.png#1": 1}
    short = tmp_path / "short"
    bt("eval", album / "captions.csv", "--model", checkpoint, "--run-out", short, "--run-depth", "3", "--limit", "5")
    assert [len(entries) for entries in trec.read_run(short).values()] == [3] * 10


def test_every_format_gives_the_figures_of_the_csv_file(bt, checkpoint, album, truth, tmp_path):
    itc, _, owner = truth
    rows = [line.split(",") for line in (album / "captions.csv").read_text().splitlines()[1:]]
    names = list(dict.fromkeys(name for name, _ in rows))
    sentences = {name: [{"raw": text} for other, text in rows if other == name] for name in names}
    other = {"filename": "elsewhere.png", "split": "train", "sentences": [{"raw": "not this one"}]}
    images = [{"filename": name, "split": "test", "sentences": sentences[name]} for name in names]
    coco = {
        "images": [{"id": 100 + place, "file_name": name} for place, name in enumerate(names)],
        "annotations": [{"id": c, "image_id": 100 + owner[c], "caption": text} for c, (_, text) in enumerate(rows)],
    }
    files = {
        "karpathy.json": json.dumps({"images": [other, *images]}),
        "coco.json": json.dumps(coco),
        "flickr.token": "".join(f"{name}#{c % 2}\t{text}\n" for c, (name, text) in enumerate(rows)),
        "lines.jsonl": "".join(json.dumps({"image": name, "caption": text}) + "\n" for name, text in rows),
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
        split = ["--split", "test"] if name == "karpathy.json" else []
        ran = bt(
            *("eval", tmp_path / name, "--images", album, "--model", checkpoint),
            *("--dtype", "float32", "--json", *split),
        )
        (found,) = ran.objects
        assert found["itc"] == close(recall.metrics_from_scores(itc, owner)), name
        assert (found["images"], found["captions"]) == (16, 32)


def test_images_that_cannot_be_read_are_named(bt, checkpoint, album, tmp_path):
    folder = tmp_path / "album"
    folder.mkdir()
    for path in album.iterdir():
        os.link(path, folder / path.name)
    (folder / "picture 03.png").unlink()
    (folder / "picture 05.png").unlink()
    (folder / "picture 05.png").write_bytes(b"no picture")
    ran = bt("eval", folder / "captions.csv", "--model", checkpoint, "--json")
    (found,) = ran.objects
    assert (found["images"], found["captions"], found["skipped"]) == (14, 28, 2)
    first, second, _ = ran.err.splitlines()
    assert first.startswith(f"bt: skipped {folder / 'picture 03.png'}: ")
    assert second.startswith(f"bt: skipped {folder / 'picture 05.png'}: ")
    strict = bt("eval", folder / "captions.csv", "--model", checkpoint, "--strict")
    assert (strict.code, strict.out) == (1, "")
    assert strict.err.startswith(f"bt: {folder / 'picture 03.png'}: ")


@pytest.mark.parametrize("stage", [[], ["--rerank"], ["--exhaustive"]])
def test_no_readable_image_is_said_once(bt, checkpoint, tmp_path, stage):
    (tmp_path / "1.png").write_bytes(b"no picture")
    (tmp_path / "captions.csv").write_text("image,caption\n1.png,a cat\n")
    ran = bt("eval", tmp_path / "captions.csv", "--model", checkpoint, *stage)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(
        f"bt: no captioned image can be read, so there is nothing to evaluate; first: {tmp_path / '1.png'}: "
    )


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--rerank", "--exhaustive"], 2, "--rerank reads candidates, --exhaustive every pair; give one of them"),
        (["--candidates", "20"], 2, "--candidates goes with --rerank"),
        (["--combine", "itm+itc"], 2, "--combine itm+itc goes with --rerank or --exhaustive"),
        (["--rerank", "--candidates", "9"], 2, "9 candidates are too few for R@10: at least 10 are needed"),
        (["--split", "test"], 1, "{captions}: no split 'test'; it has no splits"),
        (["--images", "{empty}"], 1, "{captions}: none of its 16 images is below {empty}; --images names their folder"),
        (["--images", "{captions}"], 2, "{captions}: a file; name the folder that the captions' images lie in"),
        (["--memory", "inf"], 2, "--memory is inf, but has to be a number of GiB"),
        (["--resume-dir", "{captions}"], 1, "--resume-dir {captions}: File exists"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(bt, checkpoint, album, tmp_path, options, code, message):
    names = {"captions": album / "captions.csv", "empty": tmp_path}
    arguments = [option.format(**names) for option in options]
    ran = bt("eval", album / "captions.csv", "--model", checkpoint, *arguments)
    assert (ran.code, ran.out, ran.err) == (code, "", f"bt: {message.format(**names)}\n")


def test_captions_without_images_are_refused(bt, checkpoint, tmp_path):
    (tmp_path / "lines.txt").write_text("a cat\na dog\n")
    ran = bt("eval", tmp_path / "lines.txt", "--model", checkpoint)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"bt: {tmp_path / 'lines.txt'}:1: names no image, and recall needs one a caption\n"


def test_a_resume_folder_of_the_users_own_stays(bt, checkpoint, album, tmp_path):
    (tmp_path / "mine").mkdir()
    for name in ("mine", "new"):
        assert bt("eval", album / "captions.csv", "--model", checkpoint, "--resume-dir", tmp_path / name).code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.slow
def test_a_killed_run_goes_on(bt, checkpoint, album, isolated_home):
    """SIGKILL in the middle of the pairs; the next run reads only what is left and prints what an unkilled one does."""
    arguments = ["eval", str(album / "captions.csv"), "--model", str(checkpoint), "--dtype", "float32", "--json"]
    arguments += ["--exhaustive"]
    (whole,) = bt(*arguments, "--no-resume").objects
    # Small fusion calls, slowed down, so that the kill falls between two of them.
    program = f"""
import sys, time
from bt_cli.commands.app import main
from bt_cli.evaluation import protocol
plain, protocol.FUSED_PAIRS = protocol._match, 8
def slow(*args):
    time.sleep(0.2)
    return plain(*args)
protocol._match = slow
sys.exit(main({arguments!r}))
"""
    cache = isolated_home / ".cache" / "bt" / "eval"
    process = subprocess.Popen([sys.executable, "-c", program], cwd=Path(bt_cli.__file__).parents[1])
    try:
        deadline = time.monotonic() + 300
        while count_read(cache) < 24:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    left = 512 - count_read(cache)
    assert 0 < left < 512
    ran = bt(*arguments)
    assert ran.err.startswith("bt: going on where this evaluation was interrupted\n")
    (resumed,) = ran.objects
    assert (resumed["itc"], resumed["itm"], resumed["pairs"]) == (whole["itc"], whole["itm"], 512)
    assert list(cache.parent.glob("eval/*")) == []


def count_read(cache):
    for path in cache.glob("*/itm-*.f32"):
        return int(np.count_nonzero(~np.isnan(np.fromfile(path, np.float32))))
    return 0


def test_a_second_process_at_the_same_evaluation_is_refused(bt, checkpoint, album, isolated_home, monkeypatch):
    from bt_cli.evaluation import protocol

    inner = []
    plain = protocol.run_protocol

    def evaluate(*arguments, **options):
        monkeypatch.setattr(protocol, "run_protocol", plain)
        inner.append(bt("eval", album / "captions.csv", "--model", checkpoint))
        return plain(*arguments, **options)

    monkeypatch.setattr(protocol, "run_protocol", evaluate)
    assert bt("eval", album / "captions.csv", "--model", checkpoint, "--json").code == 0
    assert inner[0].code == 1
    assert re.fullmatch(
        r"bt: .*/\.cache/bt/eval/[0-9a-f]{32}: another process is at this evaluation; wait for it, or --no-resume\n",
        inner[0].err,
    )


def test_json_has_no_nan(bt, checkpoint, album):
    ran = bt("eval", album / "captions.csv", "--model", checkpoint, "--json", "--limit", "3")
    (line,) = ran.out.splitlines()
    record = json.loads(line, parse_constant=lambda text: pytest.fail(f"{text} in JSON"))
    assert (record["images"], record["captions"], record["itc"]["tr@5"]) == (3, 6, 1.0)


def test_a_list_in_a_cell_gives_the_figures_of_a_caption_a_row(bt, checkpoint, album, tmp_path):
    import csv

    with open(album / "captions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    texts: dict[str, list[str]] = {}
    for row in rows:
        texts.setdefault(row["image"], []).append(row["caption"])
    with open(tmp_path / "hub.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["raw", "sentids", "split", "filename", "img_id"])
        for number, (name, captions) in enumerate(texts.items()):
            writer.writerow([json.dumps(captions), "[0, 1]", "test", name, number])
    own = ("--images", album, "--model", checkpoint, "--dtype", "float32", "--json", "--no-resume")
    by_row, by_list = (bt("eval", file, *own).objects[0] for file in (album / "captions.csv", tmp_path / "hub.csv"))
    assert (by_list["captions"], by_list["itc"]) == (2 * IMAGES, by_row["itc"])


def test_bad_rows_and_unclear_names_are_named_and_counted(bt, checkpoint, album, tmp_path):
    rows = [f"picture {number:02d}.png,thing {number}" for number in range(IMAGES)]
    file = tmp_path / "captions.csv"
    file.write_text("\n".join(["image,caption", *rows, *["picture 00.png,"] * 7]) + "\n")
    own = ("--images", album, "--model", checkpoint, "--dtype", "float32", "--no-resume")
    ran = bt("eval", file, *own, "--json")
    assert (ran.code, ran.objects[0]["captions"], ran.objects[0]["captions_skipped"]) == (0, IMAGES, 7)
    lines = ran.err.splitlines()[:6]
    assert lines == [f"bt: skipped {file}:{18 + n}: no caption" for n in range(5)] + [f"bt: skipped 2 more of {file}"]
    ran = bt("eval", file, *own, "--strict")
    assert (ran.code, ran.err) == (1, f"bt: {file}:18: no caption\n")


def test_a_folder_of_images_with_texts_beside_them(bt, checkpoint, album, tmp_path):
    for number in range(12):
        name = f"picture {number:02d}"
        (tmp_path / f"{name}.png").write_bytes((album / f"{name}.png").read_bytes())
        (tmp_path / f"{name}.txt").write_text(f"a thing {number}\n")
    ran = bt("eval", tmp_path, "--model", checkpoint, "--dtype", "float32", "--json", "--no-resume")
    assert (ran.code, ran.objects[0]["images"], ran.objects[0]["captions"]) == (0, 12, 12)

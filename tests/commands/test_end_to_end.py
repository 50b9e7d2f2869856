"""Search, rerank, score and fill-mask with a real checkpoint (of random weights), a real index and real pictures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bt_cli

QUERY = "a cat to the left of a dog"
ODD = b"odd \n\xff name.png"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, checkpoint_folder: Path) -> Path:
    """A folder with `pictures` (12 of them, one oddly named, one twice) and their index with captions in `.bt`."""
    from bt_cli.captions.captions import read_captions
    from bt_cli.indexing.build import build_index
    from bt_cli.indexing.encoder import ModelEncoder

    home = tmp_path_factory.mktemp("library")
    pictures = home / "pictures"
    pictures.mkdir()
    noise = np.random.default_rng(7)
    for number in range(10):
        pixels = noise.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((90 + number, 70), Image.Resampling.NEAREST).save(pictures / f"{number:02}.png")
    (pictures / "twin of 03.png").write_bytes((pictures / "03.png").read_bytes())
    (pictures / os.fsdecode(ODD)).write_bytes((pictures / "04.png").read_bytes())
    captions = home / "captions.csv"
    captions.write_text("image,caption\n00.png,a red car\n01.png,a cat\n02.png,two dogs in the snow\n")
    model = bt_cli.load(str(checkpoint_folder), dtype="float32")
    read = read_captions(captions, images=pictures)
    build_index(home / ".bt", [pictures], ModelEncoder(model), captions=[("captions.csv", read.items)])
    return home


@pytest.fixture
def at_library(library: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(library)
    monkeypatch.setenv("BT_DTYPE", "float32")
    return library


@pytest.fixture(scope="module")
def model(checkpoint_folder: Path):
    return bt_cli.load(str(checkpoint_folder), dtype="float32")


def test_search_gives_the_cosines(bt, at_library: Path, model) -> None:
    ran = bt("search", QUERY, "--json", "-k", "99")
    assert ran.code == 0
    paths = [hit["path"] for hit in ran.objects]
    assert sorted(os.fsencode(path) for path in paths) == sorted(
        os.fsencode(path) for path in map(str, Path("pictures").iterdir())
    )
    cosines = model.encode_images(paths) @ model.encode_texts([QUERY])[0]
    np.testing.assert_allclose([hit["itc"] for hit in ran.objects], cosines, atol=2e-3)  # the index holds float16
    assert [(-hit["itc"], hit["id"]) for hit in ran.objects] == sorted((-hit["itc"], hit["id"]) for hit in ran.objects)
    assert "pictures/odd \\n\\xff name.png" in bt("search", QUERY, "-k", "99").out


def test_twins_stand_together_by_id(bt, at_library: Path) -> None:
    hits = bt("search", "--image", "pictures/03.png", "--json").objects
    assert [hit["path"] for hit in hits[:2]] == ["pictures/03.png", "pictures/twin of 03.png"]
    assert hits[0]["itc"] == hits[1]["itc"]


@pytest.mark.parametrize("options", [[], ["--rerank"], ["--rerank", "--candidates", "7"], ["-g", "0*", "--rerank"]])
def test_a_small_k_is_the_beginning_of_a_larger_one(bt, at_library: Path, options: list[str]) -> None:
    whole = bt("search", QUERY, "--json", "-k", "12", *options).objects
    assert bt("search", QUERY, "--json", "-k", "3", *options).objects == whole[:3]


def test_reranking_gives_the_match_logits(bt, at_library: Path, model) -> None:
    hits = bt("search", QUERY, "--rerank", "--json", "-k", "12").objects
    logits = model.itm([hit["path"] for hit in hits], [QUERY])[:, 0]
    np.testing.assert_allclose([hit["itm_logit"] for hit in hits], logits[:, 1], atol=1e-4)
    np.testing.assert_allclose(
        [hit["itm_prob"] for hit in hits], 1 / (1 + np.exp(logits[:, 0] - logits[:, 1])), atol=1e-5
    )
    assert hits != bt("search", QUERY, "--json", "-k", "12").objects


def test_captions(bt, at_library: Path, model) -> None:
    ran = bt("search", "--image", "pictures/01.png", "--to", "captions", "--rerank", "--json")
    assert ran.code == 0, ran.err
    texts = [hit["caption"] for hit in ran.objects]
    assert sorted(texts) == ["a cat", "a red car", "two dogs in the snow"]
    np.testing.assert_allclose(
        [hit["score"] for hit in ran.objects], model.score(["pictures/01.png"], texts)[0], atol=1e-4
    )
    assert {hit["caption"]: hit["path"] for hit in ran.objects}["a red car"] == "pictures/00.png"


def test_score_and_fill_mask(bt, at_library: Path, model, checkpoint_folder: Path) -> None:
    name = ["--model", str(checkpoint_folder), "--json"]
    pairs = bt("score", "--image", "pictures/00.png", "--image", "pictures/01.png", "a cat", "a dog", *name).objects
    np.testing.assert_allclose(
        np.reshape([pair["itm_logit"] for pair in pairs], (2, 2)),
        model.score(["pictures/00.png", "pictures/01.png"], ["a cat", "a dog"]),
        atol=1e-4,
    )
    ran = bt("fill-mask", "<mask> on a <mask>", "--image", "pictures/00.png", "-k", "3", *name)
    words = model.fill_mask("pictures/00.png", "<mask> on a <mask>", k=3)
    assert [(word["mask"], word["token"], word["token_id"]) for word in ran.objects] == [
        (number, token, token_id) for number, found in enumerate(words) for token, token_id, _ in found
    ]


def test_a_run_of_bt_eval_is_reranked_to_what_bt_eval_reranks(bt, at_library, tmp_path, checkpoint_folder) -> None:
    def evaluated(name: str, *options: str) -> Path:
        files = ["--run-out", tmp_path / name, "--queries-out", tmp_path / "queries.tsv"]
        common = ["captions.csv", "--images", "pictures", "--model", checkpoint_folder, "--no-resume", "-q"]
        assert bt("eval", *common, *files, *options).code == 0
        return tmp_path / name

    def lines(text: str) -> list[tuple[list[str], float]]:
        """Query, document and rank of each line, and its score."""
        fields = [line.split() for line in text.splitlines()]
        return [([query, document, rank], float(score)) for query, _, document, rank, score, _ in fields]

    found, read = evaluated("itc.txt"), evaluated("itm.txt", "--rerank")
    ran = bt(
        *["rerank", "--run", found, "--queries", tmp_path / "queries.tsv", "--images", "pictures"],
        *["--model", checkpoint_folder, "-q"],
    )
    assert (ran.code, ran.err) == (0, "")
    assert found.read_text() != read.read_text()
    assert [line for line, _ in lines(ran.out)] == [line for line, _ in lines(read.read_text())]
    np.testing.assert_allclose(
        [score for _, score in lines(ran.out)], [score for _, score in lines(read.read_text())], atol=1e-4
    )


def test_broken_pictures_are_named(bt, at_library: Path, checkpoint_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    ran = bt("rerank", QUERY, "pictures/00.png", str(broken), "--model", str(checkpoint_folder), "--paths")
    assert (ran.code, ran.out) == (0, "pictures/00.png\n")
    assert ran.err.startswith(f"bt: skipped {broken}: ")


# Real processes, as a shell would start them.


def shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    bt = f"{sys.executable} -m bt_cli"
    root = str(Path(bt_cli.__file__).parents[1])
    return subprocess.run(
        ["sh", "-c", f'bt() {{ {bt} "$@"; }}; {command}'],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": root, "BT_DTYPE": "float32", "OMP_NUM_THREADS": "1", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=300,
    )


def test_a_pipe_from_search_to_rerank(bt, at_library: Path) -> None:
    ran = shell(f'bt search "{QUERY}" -k 12 --json -q | bt rerank "{QUERY}" --json', at_library)
    assert ran.returncode == 0, ran.stderr
    piped = [json.loads(line) for line in ran.stdout.splitlines()]
    assert os.fsencode("pictures/") + ODD in [os.fsencode(hit["path"]) for hit in piped]
    whole = bt("search", QUERY, "--rerank", "-k", "12", "--json").objects
    # The first process embeds its text without torch, this one with it: cosines agree within their rounding.
    for hit, other in zip(piped, whole, strict=True):
        assert hit.pop("itc") == pytest.approx(other.pop("itc"), abs=1e-6)
    assert piped == whole
    assert ran.stderr.startswith(b"bt: 12 images reranked in ")


def test_a_pipe_of_paths_to_xargs(bt, at_library: Path) -> None:
    ran = shell(f"bt search '{QUERY}' -k 12 --paths -0 -q | xargs -0 cksum", at_library)
    assert (ran.returncode, ran.stderr) == (0, b"")
    paths = bt("search", QUERY, "-k", "12", "--json").objects
    assert [int(line.split()[1]) for line in ran.stdout.splitlines() if line[:1].isdigit()] == [
        os.path.getsize(hit["path"]) for hit in paths
    ]


def test_an_interrupt_is_130_and_one_line(at_library: Path) -> None:
    root = str(Path(bt_cli.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); import sys; from bt_cli.__main__ import start; sys.exit(start())"]
        + ["search", QUERY, "--rerank"],  # which imports torch, and is far from its end by then
        cwd=at_library,
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.4)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert err in (b"", b"bt: interrupted\n")
    assert out == b""


def test_the_process_leaves_with_its_code_before_the_interpreter_takes_itself_apart(at_library: Path) -> None:
    """While it does, a thread of a native library that wants something of Python aborts the process."""
    program = (
        "import atexit, sys\n"
        "class Last:\n"
        "    def __del__(self, say=sys.stderr.write): say('taken apart')\n"
        "last = sys.last = Last()\n"
        "from bt_cli.__main__ import start\n"
        "code = start()\n"
        "atexit.register(print, 'asked to be called')\n"
        "sys.exit(code)\n"
    )
    runs = {("info", "--json"): 0, ("search", "a dog", "--model", "none/at/all"): 1, ("info", "-x"): 2}
    for arguments, code in runs.items():
        ran = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=at_library,
            env={**os.environ, "PYTHONPATH": str(Path(bt_cli.__file__).parents[1])},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert ran.returncode == code, ran.stderr
        assert "taken apart" not in ran.stderr
        assert ran.stdout.splitlines()[-1:] == ["asked to be called"]
        assert len(ran.stdout.splitlines()) == (2 if code == 0 else 1)

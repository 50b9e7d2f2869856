"""The index folder as readers use it: found, opened, searched, and read while it is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xxhash

from bt_cli.embeddings.embedding_table import vector_array
from bt_cli.embeddings.identity import Identity
from bt_cli.embeddings.image_rows import ImageRows
from bt_cli.errors import BrokenIndex, IndexMismatch, NoIndex
from bt_cli.paths.glob import glob_matcher
from bt_cli.store.index_folder import IndexFolder
from bt_cli.store.index_writer import IndexWriter
from bt_cli.store.manifest import Manifest
from bt_cli.store.piece_writer import CaptionRows

IDENTITY = Identity("tiny", "a" * 16, "crop", 8, "float32")
PATHS = ["photos/2019/cat.jpg", "photos/2020/dog.png", "photos/odd\n.jpg", "x.webp"]


def vectors(rows: int) -> np.ndarray:
    made = np.random.default_rng(rows).standard_normal((rows, 8)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def write_index(folder: Path, paths: list[str] = PATHS, **options: object) -> Manifest:
    rows = ImageRows.blank(paths)
    columns = {**rows.columns(0, len(paths)), "embedding": vector_array(vectors(len(paths)), "float16")}
    with IndexWriter(folder, IDENTITY) as writer:
        writer.journal.append(columns)
        gone = np.arange(len(writer.stored))
        return writer.commit(rows, np.full(len(paths), -1), gone, roots=["photos"], **options)  # type: ignore[arg-type]


def write_captions(folder: Path) -> Manifest:
    """A next generation with two captions, the second one's image unknown."""
    texts, nothing = ["one", "two"], [None, None]
    columns = {"caption": texts, "image": nothing, "image_path_bytes": nothing, "caption_id": nothing}
    with IndexWriter(folder, IDENTITY) as writer:
        writer.caption_journal.append({**columns, "embedding": vector_array(vectors(2), "float16")})
        nothing_new = np.empty(0, np.int64)
        captions = CaptionRows(texts, [PATHS[0], None], [None, None], ["captions.txt"])
        return writer.commit(ImageRows.blank([]), nothing_new, nothing_new, roots=["photos"], captions=captions)


def image_ids_of_captions(ids: list[int]) -> list[int]:
    with IndexFolder.open(".bt") as index:
        assert index.captions is not None
        return index.captions.image_ids(ids).tolist()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with an index in `.bt`."""
    write_index(tmp_path / ".bt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_is_found_here_or_above_as_git_does(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "a/b").mkdir(parents=True)
    assert IndexFolder.locate() == home / ".bt"
    assert IndexFolder.locate(start=home / "a/b") == home / ".bt"
    write_index(home / "a/.bt")
    assert IndexFolder.locate(start=home / "a/b") == home / "a/.bt"
    assert IndexFolder.locate("a/.bt") == Path("a/.bt")
    (home / "c/.bt").mkdir(parents=True)  # a folder of that name is no index
    assert IndexFolder.locate(start=home / "c") == home / ".bt"


def test_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(NoIndex, match=r"no index in .* or above; bt index FOLDER makes one"):
        IndexFolder.locate(start=tmp_path)
    with pytest.raises(NoIndex, match=r"nowhere: no index here; bt index FOLDER --index .*nowhere makes one"):
        IndexFolder.locate(tmp_path / "nowhere")
    with pytest.raises(NoIndex):
        IndexFolder.open(tmp_path)


def test_search(home: Path) -> None:
    with IndexFolder.open(".bt") as index:
        assert (len(index), index.dimension, index.identity) == (4, 8, IDENTITY)
        scores, ids = index.search(vectors(4)[2], 10)
        assert ids.shape == (1, 4)
        assert ids[0, 0] == 2
        assert scores[0, 0] == pytest.approx(1, abs=1e-3)
        assert index.search(vectors(4), 0)[1].shape == (4, 0)
        assert index.search(vectors(4)[:1], 9, ids=[3, 1, 3])[1].shape == (1, 2)
        with pytest.raises(ValueError, match="7 dimensions in an index of 8"):
            index.search(np.ones(7), 1)


def test_paths_are_those_a_person_here_would_write(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with IndexFolder.open(home / ".bt") as index:
        assert index.paths(range(4)) == PATHS
        (home / "photos/2019").mkdir(parents=True)
        monkeypatch.chdir(home / "photos/2019")
        assert index.paths([0, 1, 3]) == ["cat.jpg", "../2020/dog.png", "../../x.webp"]
        monkeypatch.chdir("/")
        assert index.paths([3]) == [str(home / "x.webp").lstrip("/")]
    write_index(home / "elsewhere/.bt", ["/abs/a.jpg"])
    monkeypatch.chdir(home)
    with IndexFolder.open("elsewhere/.bt") as index:
        assert index.paths([0]) == ["/abs/a.jpg"]


def test_images_of_a_moved_folder_are_found(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "new").mkdir()
    (home / ".bt").rename(home / "new/.bt")
    monkeypatch.chdir(home / "new")
    with IndexFolder.open(IndexFolder.locate()) as index:
        assert index.paths(range(4)) == PATHS


def test_a_link_to_a_library_and_a_link_beside_the_pictures(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "far").mkdir()
    (home / "far/link").symlink_to(home / ".bt")
    with IndexFolder.open("far/link") as index:  # written from the folder that holds it
        assert index.paths([0]) == PATHS[:1]
    (home / ".bt").rename(home / "far/idx")
    (home / ".bt").symlink_to(home / "far/idx")
    with IndexFolder.open(".bt") as index:  # written beside the pictures, and linked there now
        assert index.paths([0]) == PATHS[:1]
    assert Manifest.read(".bt").home == str(home)
    (home / "moved").mkdir()
    (home / "moved/.bt").symlink_to(home / "far/idx")
    monkeypatch.chdir(home / "moved")
    with IndexFolder.open(".bt") as index:  # the pictures went elsewhere with the link
        assert index.paths([0]) == PATHS[:1]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.jpg", [0, 2]),
        ("cat.*", [0]),
        ("photos/*.jpg", [2]),
        ("photos/**/*.jpg", [0, 2]),
        ("photos/**", [0, 1, 2]),
        ("20[12]9/*", [0]),
        ("20[!1]?/*", [1]),
        ("./x.webp", [3]),
        ("./photos/*", [2]),
        ("otos/*", []),
        ("*.JPG", []),
        ("[", []),
        ("photos/", [0, 1, 2]),
        ("20*/", [0, 1]),
        ("photos/20*/", [0, 1]),
        ("tmp/", []),  # above the pictures
        ("cat.jpg/", []),
    ],
)
def test_globs(home: Path, pattern: str, found: list[int]) -> None:
    with IndexFolder.open(".bt") as index:
        assert index.matching(pattern).tolist() == found
        assert index.matching(str(home / "*")).tolist() == [3]


def test_globs_of_plain_paths() -> None:
    assert glob_matcher("a?c")("x/abc")
    assert not glob_matcher("a?c")("abc/x")
    assert not glob_matcher("a*c")("a/c")


@pytest.mark.parametrize("name", ["a[bc]", "what?", "all*", "[!x]"])
def test_globs_from_a_folder_named_like_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / name / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / name)
    assert glob_matcher("./a/*.jpg")(str(tmp_path / name / "a/x.jpg"))
    assert not glob_matcher("./a/*.jpg")(str(tmp_path / "ab" / "a/x.jpg"))
    assert glob_matcher("../*/x.jpg")(str(tmp_path / "any/x.jpg"))
    monkeypatch.chdir("deep")
    assert glob_matcher("../x*")(str(tmp_path / name / "x.jpg"))


def test_opening_and_searching_reads_neither_the_table_nor_heavy_libraries(home: Path) -> None:
    code = (
        "import sys\n"
        "from bt_cli.store.index_folder import IndexFolder\n"
        "index = IndexFolder.open(IndexFolder.locate()); index.paths([0, 1]); index.matching('*.jpg')\n"
        "print(sorted({'torch', 'faiss', 'pyarrow', 'pandas'} & set(sys.modules)))\n"
        "import numpy; index.search(numpy.ones((1, 8)), 2)\n"
        "print(sorted({'faiss', 'pyarrow'} & set(sys.modules)))\n"
    )
    (home / ".bt").joinpath(IndexFolder.open(".bt").manifest.pieces[0].table).write_bytes(b"no table")
    repository = str(Path(__file__).resolve().parents[2])
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": repository},
        check=False,
    )
    assert (ran.stdout, ran.stderr) == ("[]\n[]\n", "")


def test_the_table_outlives_its_generation(home: Path) -> None:
    index = IndexFolder.open(".bt")
    write_index(home / ".bt", [*PATHS, "y.jpg"])
    assert len(index.table()) == 4
    assert index.search(vectors(4)[1], 1)[1].tolist() == [[1]]
    assert len(IndexFolder.open(".bt")) == 5


def test_readers_beside_a_writer_always_find_a_whole_index(home: Path) -> None:
    stop = threading.Event()
    wrong: list[object] = []

    def read() -> None:
        while not stop.is_set():
            try:
                with IndexFolder.open(home / ".bt") as index:
                    if not len(index) == len(index.table(["path"])) == len(index.paths(range(len(index)))):
                        wrong.append(len(index))
            except Exception as error:
                wrong.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for size in range(20):
        write_index(home / ".bt", [f"{number:02d}.jpg" for number in range(size + 1)])
    stop.set()
    reader.join()
    assert wrong == []


def test_another_checkpoint_is_refused_by_name(home: Path) -> None:
    with IndexFolder.open(".bt") as index:
        index.require(Identity("copy of tiny", "a" * 16, "crop", 8, "bfloat16"))
        for other, said in [
            (Identity("large", "b" * 16, "crop", 8, "float32"), "made by checkpoint tiny, not large"),
            (
                Identity("tiny", "b" * 16, "crop", 8, "float32"),
                "made by checkpoint tiny (aaaaaaaaaaaa), not tiny (bbbbbbbbbbbb)",
            ),
            (Identity("tiny", "a" * 16, "squash", 8, "float32"), "made with preprocessing crop, not squash"),
            (Identity("tiny", "a" * 16, "crop", 9, "float32"), "made with 8 dimensions, not 9"),
        ]:
            with pytest.raises(IndexMismatch) as refused:
                index.require(other)
            way_out = "use --model tiny, or bt index --rebuild to encode everything again"
            assert str(refused.value) == f"index .bt: {said}; {way_out}"


def test_a_caption_that_is_no_text_any_more(home: Path) -> None:
    manifest = write_captions(home / ".bt")
    assert manifest.captions is not None
    texts = home / ".bt" / manifest.captions.strings
    texts.write_bytes(texts.read_bytes()[:-1] + b"\xff")
    with pytest.raises(BrokenIndex, match=r"texts-000002\.bin: damaged; .*--rebuild"):
        IndexFolder.open(".bt")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"rubbish"),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes()[:10] + b"}" + path.read_bytes()[11:]),
        lambda path: np.save(path, np.array([0, 1, 2])),
        lambda path: np.save(path, np.array([[0, 1]])),
        lambda path: np.save(path, np.array([0.0, 1.0])),
        lambda path: np.save(path, np.array([0, 4])),
        lambda path: np.save(path, np.array([-2, 0])),
    ],
)
def test_the_images_of_captions_damaged(home: Path, spoil: Callable[[Path], object]) -> None:
    manifest = write_captions(home / ".bt")
    assert manifest.captions is not None
    assert manifest.captions.owners is not None
    spoil(home / ".bt" / manifest.captions.owners)
    with pytest.raises(BrokenIndex, match=r"caption-images-000002\.npy: damaged; .*--rebuild"):
        image_ids_of_captions([0, 1])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("generation", "x"),
        ("generation", -1),
        ("roots", [3]),
        ("roots", None),
        ("store_dtype", "float99"),
        ("home", 3),
        ("factory", {}),
        ("pieces.0.rows", "4"),
        ("pieces.0.vectors", 3),
        ("pieces.0.table", "."),
        ("pieces.0.table", "../photos/a.jpg"),
        ("pieces.0.strings", None),
        ("pieces.0.search", {"nprobe": "x"}),
        ("pieces", [[]]),
        ("pieces.0.deleted", "x"),
        ("pieces.0.deleted", "AAAA"),
        ("identity", 7),
        ("identity.checkpoint", ["tiny"]),
        ("identity.dimension", "8"),
        ("identity.dimension", float("inf")),
    ],
)
def test_a_manifest_with_values_that_cannot_be(home: Path, field: str, value: object) -> None:
    fields = json.loads((home / ".bt/manifest.json").read_text())
    *groups, name = field.split(".")
    target = fields
    for group in groups:
        target = target[int(group) if group.isdigit() else group]
    target[name] = value
    del fields["checksum"]
    checksum = xxhash.xxh3_128_hexdigest(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode())
    (home / ".bt/manifest.json").write_text(json.dumps({**fields, "checksum": checksum}))
    with pytest.raises(BrokenIndex, match="--rebuild") as refused:
        IndexFolder.open(".bt")
    assert "\n" not in str(refused.value)


def test_a_manifest_nested_beyond_reason(home: Path) -> None:
    (home / ".bt/manifest.json").write_text("[" * 200_000)
    with pytest.raises(BrokenIndex, match=r"manifest\.json: .*--rebuild"):
        IndexFolder.open(".bt")


def test_missing_and_foreign_files(home: Path) -> None:
    manifest = Manifest.read(".bt")
    text = (home / ".bt/manifest.json").read_text()
    (home / ".bt/manifest.json").write_text(text.replace('"format": 2', '"format": 3'))
    with pytest.raises(IndexMismatch, match="index format 3, and this bt knows 2: a later bt wrote it"):
        IndexFolder.open(".bt")
    (home / ".bt/manifest.json").write_text("[]")
    with pytest.raises(BrokenIndex, match=r"manifest\.json: .*--rebuild"):
        IndexFolder.open(".bt")
    (home / ".bt/manifest.json").write_text(text)
    (home / ".bt" / manifest.pieces[0].strings).unlink()
    with pytest.raises(BrokenIndex, match=r"paths-000001\.bin: missing from the index; .*--rebuild"):
        IndexFolder.open(".bt")

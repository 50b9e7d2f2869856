"""Which files are found below a folder, and in what order."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bt_cli.datasets.exclusion import Exclusion
from bt_cli.datasets.image_folder import content_hash, find_images, path_key
from bt_cli.datasets.passed_over import PassedOver, suffix_of
from bt_cli.errors import Misuse, NotFound


def make(root: Path, *names: str, content: bytes = b"x") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def found(root: Path, *roots: str) -> list[str]:
    paths = [file.path for file in find_images([root / name for name in roots] if roots else [root])]
    return [os.path.relpath(path, root) for path in paths]


def test_images_by_suffix_in_the_order_of_their_components(tmp_path: Path) -> None:
    make(tmp_path, "b.jpg", "a/z.PNG", "a-b.jpg", "a.webp", "a/b/c.heic", "notes.txt", "d.jpg.part", "B.jpg")
    assert found(tmp_path) == ["B.jpg", "a/b/c.heic", "a/z.PNG", "a-b.jpg", "a.webp", "b.jpg"]


def test_size_and_time(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", content=b"12345")
    os.utime(tmp_path / "a.jpg", ns=(1, 1_234_567_890_123_456_789))
    (file,) = find_images([tmp_path])
    assert file == (str(tmp_path / "a.jpg"), 5, 1_234_567_890_123_456_789)


def test_hidden_ones_are_passed_over_unless_named(tmp_path: Path) -> None:
    make(tmp_path, ".a.jpg", ".bt/b.jpg", "c/.d/e.jpg", "f.jpg")
    assert found(tmp_path) == ["f.jpg"]
    assert found(tmp_path, ".a.jpg", "c/.d") == [".a.jpg", "c/.d/e.jpg"]


def test_files_without_a_suffix_are_told_by_their_first_bytes(tmp_path: Path) -> None:
    make(tmp_path, "jpeg", content=b"\xff\xd8\xff\xe0rest")
    make(tmp_path, "webp", content=b"RIFF\0\0\0\0WEBPVP8 ")
    make(tmp_path, "avif", content=b"\0\0\0\x1cftypavif")
    make(tmp_path, "README", content=b"BMs are not images")
    make(tmp_path, "empty", content=b"")
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert found(tmp_path) == ["avif", "jpeg", "webp"]


def test_loops_of_links_end_and_no_image_comes_twice(tmp_path: Path) -> None:
    make(tmp_path, "a/b/x.jpg", "y.jpg")
    os.symlink(tmp_path, tmp_path / "a/up")
    os.symlink(tmp_path / "a", tmp_path / "a/b/again")
    os.symlink("self", tmp_path / "self")
    os.symlink(tmp_path / "a/b", tmp_path / "0-first")
    assert found(tmp_path) == ["a/b/x.jpg", "y.jpg"]


def test_links_to_outside_and_to_hidden_folders_are_followed(tmp_path: Path) -> None:
    make(tmp_path, "root/.hidden/h.jpg", "outside/o.jpg", "outside/deep/p.jpg")
    os.symlink(tmp_path / "outside", tmp_path / "root/out")
    os.symlink(tmp_path / "outside", tmp_path / "root/out-again")
    os.symlink(".hidden", tmp_path / "root/seen")
    os.symlink(tmp_path / "root", tmp_path / "outside/back")
    os.symlink(tmp_path / "outside/o.jpg", tmp_path / "root/file.jpg")
    assert found(tmp_path, "root") == ["root/file.jpg", "root/out/deep/p.jpg", "root/out/o.jpg", "root/seen/h.jpg"]


def test_roots_in_roots_and_files_as_roots(tmp_path: Path) -> None:
    make(tmp_path, "a/b/x.jpg", "a/y.jpg", "a/odd.dat")
    assert found(tmp_path, "a/b", "a") == ["a/b/x.jpg", "a/y.jpg"]
    assert found(tmp_path, "a", "a/b", "a/y.jpg") == ["a/b/x.jpg", "a/y.jpg"]
    assert found(tmp_path, "a/odd.dat", "a/odd.dat", "a") == ["a/odd.dat", "a/b/x.jpg", "a/y.jpg"]


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg")
    os.symlink("nowhere", tmp_path / "broken.jpg")
    told: list[tuple[str, str | None]] = []
    images = find_images([tmp_path], on_error=lambda path, error: told.append((path, error.strerror)))
    assert [file.path for file in images] == [str(tmp_path / "a.jpg")]
    assert told == [(str(tmp_path / "broken.jpg"), "No such file or directory")]


def test_a_missing_root_is_told_before_anything_is_looked_at(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg")
    with pytest.raises(NotFound, match=r"no\\nwhere: no such file or folder"):
        find_images([tmp_path, tmp_path / "no\nwhere"])


NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda name: not {0, ord("/")} & set(name) and not name.startswith(b".")
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(NAMES, min_size=1, max_size=3), max_size=8))
def test_any_name_is_found_once_in_order(tmp_path_factory: pytest.TempPathFactory, names: list[list[bytes]]) -> None:
    root = os.fsencode(tmp_path_factory.mktemp("names"))
    expected = set()
    for parts in names:
        path = os.path.join(root, *(part + b".d" for part in parts[:-1]), parts[-1] + b".jpg")
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(b"x")
        except OSError:  # a name that this file system does not take
            continue
        expected.add(os.fsdecode(path))
    listed = [file.path for file in find_images([os.fsdecode(root)])]
    assert sorted(listed) == sorted(expected)
    assert listed == sorted(listed, key=path_key)


def test_content_hash_is_what_sha256sum_prints(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    make(tmp_path, "a", content=content)
    assert content_hash(tmp_path / "a") == content_hash(content) == hashlib.sha256(content).hexdigest()


JPEG = b"\xff\xd8\xff\xe0 and so on"


def walked(root: Path, *globs: str, defaults: bool = True) -> tuple[list[str], PassedOver]:
    tally = PassedOver()
    files = find_images([root], exclusion=Exclusion(globs, defaults), passed_over=tally)
    return [os.path.relpath(file.path, root) for file in files], tally


def test_content_decides_where_the_suffix_says_nothing(tmp_path: Path) -> None:
    make(tmp_path, "x.jpg_large", "Shot at 10.15.30", "photo.jpg~", "photo.bak", "a.b.d", content=JPEG)
    make(tmp_path, "film.mp4", "drawing.svg", "notes", "x.dat", "v1.2", "empty.weird", content=b"no image")
    make(tmp_path, "empty", content=b"")
    found_files, tally = walked(tmp_path)
    assert found_files == ["Shot at 10.15.30", "a.b.d", "photo.bak", "photo.jpg~", "x.jpg_large"]
    assert tally.suffixes == {"": 3, ".mp4": 1, ".svg": 1, ".dat": 1, ".weird": 1}
    assert tally.excluded == 0


def test_what_other_programs_keep_among_pictures_is_left_out(tmp_path: Path) -> None:
    make(
        tmp_path,
        "a.jpg",
        "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",
        "b/@eaDir/t.jpg",
        "#recycle/x.jpg",
        "$Recycle.Bin/y.jpg",
    )
    make(
        tmp_path, "site/node_modules/p/logo.png", "__MACOSX/._a.jpg", "lost+found/z.jpg", ".thumbnails/t.png", ".h.jpg"
    )
    make(tmp_path, "System Volume Information/i.png", "P.photoslibrary/originals/1.jpg")
    make(tmp_path, "P.photoslibrary/resources/derivatives/1.jpg", "node_modules.jpg", "resources/r.jpg")
    found_files, tally = walked(tmp_path)
    assert found_files == ["P.photoslibrary/originals/1.jpg", "a.jpg", "node_modules.jpg", "resources/r.jpg"]
    assert tally.excluded == 11
    everything, tally = walked(tmp_path, defaults=False)
    assert (len(everything), tally.excluded) == (15, 0)
    again, _ = walked(tmp_path, "!@eaDir")
    assert "b/@eaDir/t.jpg" in again
    assert "#recycle/x.jpg" not in again


@pytest.mark.parametrize(
    ("globs", "left"),
    [
        (["raw"], ["2020/b.jpg", "a.jpg", "rawhide.jpg"]),
        (["raw/"], ["2020/b.jpg", "a.jpg", "rawhide.jpg"]),
        (["*.jpg"], []),
        (["*.jpg", "!a.jpg"], ["a.jpg"]),
        (["2020/raw"], ["2020/b.jpg", "a.jpg", "raw/d.jpg", "rawhide.jpg"]),
        (["/raw"], ["2020/b.jpg", "2020/raw/c.jpg", "a.jpg", "rawhide.jpg"]),
        (["./pics/raw"], ["2020/b.jpg", "2020/raw/c.jpg", "a.jpg", "rawhide.jpg"]),
        (["pics/2020"], ["a.jpg", "raw/d.jpg", "rawhide.jpg"]),
        (["pics/*.jpg"], ["2020/b.jpg", "2020/raw/c.jpg", "raw/d.jpg"]),
        (["**/c.jpg"], ["2020/b.jpg", "a.jpg", "raw/d.jpg", "rawhide.jpg"]),
        (["pics"], ["2020/b.jpg", "2020/raw/c.jpg", "a.jpg", "raw/d.jpg", "rawhide.jpg"]),
        (["RAW"], ["2020/b.jpg", "2020/raw/c.jpg", "a.jpg", "raw/d.jpg", "rawhide.jpg"]),
    ],
)
def test_globs_leave_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, globs: list[str], left: list[str]) -> None:
    make(tmp_path / "pics", "a.jpg", "rawhide.jpg", "raw/d.jpg", "2020/b.jpg", "2020/raw/c.jpg")
    monkeypatch.chdir(tmp_path)
    for root in ("pics", "./pics", "pics/", str(tmp_path / "pics")):
        found_files = [file.path for file in find_images([root], exclusion=Exclusion(tuple(globs)))]
        assert sorted(os.path.relpath(path, "pics") for path in found_files) == sorted(left), root


def test_an_absolute_glob(tmp_path: Path) -> None:
    make(tmp_path, "pics/a.jpg", "pics/raw/b.jpg")
    assert walked(tmp_path / "pics", str(tmp_path / "pics/raw"))[0] == ["a.jpg"]


def test_ignore_files_hold_below_their_folder_the_nearest_first(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "b.png", "sub/a.jpg", "sub/b.png", "sub/deep/b.png", "other/b.png", "sub/drafts/x.jpg")
    make(tmp_path, ".btignore", content=b"# all drawings\n*.png\ndrafts/\n")
    make(tmp_path, "sub/.btignore", content=b"!*.png\n/a.jpg\r\n")
    make(tmp_path, "sub/deep/.btignore", content=b"*\n")
    for root in (tmp_path, str(tmp_path) + "/"):
        tally = PassedOver()
        files = [os.path.relpath(f.path, tmp_path) for f in find_images([root], passed_over=tally)]
        assert files == ["a.jpg", "sub/b.png"]
        assert (tally.excluded, tally.suffixes) == (5, {})


def test_an_ignore_file_goes_before_globs_and_globs_before_defaults(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "b.png", "@eaDir/t.jpg", "#recycle/u.jpg", "#recycle/v.jpg")
    make(tmp_path, ".btignore", content=b"!a.jpg\n!@eaDir\n")
    assert walked(tmp_path, "a.jpg", "*.png", "!#recycle", "v.*")[0] == ["#recycle/u.jpg", "@eaDir/t.jpg", "a.jpg"]


def test_an_ignore_file_that_says_nothing_sure_stops_the_walk(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg")
    make(tmp_path, ".btignore", content=b"x" * ((1 << 20) + 1))
    with pytest.raises(Misuse, match=r"\.btignore: longer than 1,048,576 bytes"):
        walked(tmp_path)
    (tmp_path / ".btignore").unlink()
    os.mkfifo(tmp_path / ".btignore")
    assert walked(tmp_path)[0] == ["a.jpg"]


def test_a_glob_that_is_none() -> None:
    with pytest.raises(Misuse, match=r"^--exclude !: "):
        Exclusion(("!",)).check()


def test_a_link_to_a_folder_that_is_left_out_is_followed_as_to_a_hidden_one(tmp_path: Path) -> None:
    make(tmp_path, "@eaDir/t.jpg", "mine/a.jpg", "b/c.jpg")
    make(tmp_path, ".btignore", content=b"/mine\n")
    for name, target in [("l1", "@eaDir"), ("l2", "mine"), ("l3", "b")]:
        os.symlink(tmp_path / target, tmp_path / name)
    assert walked(tmp_path)[0] == ["b/c.jpg", "l1/t.jpg", "l2/a.jpg"]


def test_what_is_no_plain_file_is_passed_over_and_never_waited_for(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
        monkeypatched = os.getcwd()
        os.chdir(tmp_path)
        server.bind("s.png")
        os.chdir(monkeypatched)
    os.symlink("/dev/zero", tmp_path / "zero.png")
    specials = 4
    if os.path.ismount("/proc"):
        os.symlink("/proc/kmsg", tmp_path / "kernel.jpg")
        os.symlink("/proc/self", tmp_path / "process")
        specials += 2
    found_files, tally = walked(tmp_path)
    assert found_files == ["a.jpg"]
    assert tally.suffixes == {"special": specials}


def test_what_was_passed_over_in_words() -> None:
    tally = PassedOver()
    assert tally.lines() == []
    for number, name in enumerate(["a.mp4", "b.DNG", "notes", "x.ogg", "y.txt", "z.xml", "w.wav", "v.tar.gz"], 1):
        for _ in range(number):
            tally.add(name)
    assert tally.lines() == ["36 files passed over: 8 .gz, 7 .wav, 6 .xml, 5 .txt, 4 .ogg, 3 without a suffix, 3 more"]
    tally = PassedOver(excluded=1)
    for _ in range(60):
        tally.add_unread("a.HEIC")
    assert tally.lines() == [
        "60 files passed over: 60 .heic",
        "1 file or folder excluded",
        "pip install 'bridgetower[images]' reads .heic",
    ]


@given(st.text(max_size=20))
def test_a_suffix_is_short_and_has_a_letter(name: str) -> None:
    suffix = suffix_of(name)
    assert suffix == "" or (2 <= len(suffix) <= 13 and name.lower().endswith(suffix) and suffix.isprintable())

"""Results that outlive the process."""

from __future__ import annotations

import numpy as np
import pytest

from bt_cli.errors import BtError, Unwritable
from bt_cli.evaluation import resume as module
from bt_cli.evaluation.resume import ResumableArrays


def test_an_array_is_found_again_as_it_was_left(tmp_path):
    first = ResumableArrays(tmp_path, "model", "data")
    assert not first.has_results
    array = first.array("itm", (5, 3))
    assert array.dtype == np.float32
    assert np.isnan(array).all()
    array[2] = [1, 2, 3]
    first.prove("itm", range(6, 9))
    again = ResumableArrays(tmp_path, "model", "data")
    assert again.has_results
    found = again.array("itm", (5, 3))
    assert found[2].tolist() == [1, 2, 3]
    assert np.isnan(np.delete(found, 2, axis=0)).all()


def test_an_array_of_another_size_begins_anew(tmp_path):
    resumable = ResumableArrays(tmp_path, "model")
    resumable.array("itm", (5,))[:] = 1
    assert np.isnan(resumable.array("itm", (6,))).all()


def test_what_was_altered_or_not_proven_is_missing_again_and_nothing_else(tmp_path):
    size = 3 * module.BLOCK + 100

    def blocks_left() -> list[bool]:
        again = ResumableArrays(tmp_path, "m").array("itm", (size,))
        left = [np.array_equal(again[at : at + module.BLOCK], values[at : at + module.BLOCK]) for at in starts]
        assert [np.isnan(again[at : at + module.BLOCK]).all() for at in starts] == [not whole for whole in left]
        return left

    starts = range(0, size, module.BLOCK)
    values = np.random.default_rng(0).random(size).astype(np.float32)
    resumable = ResumableArrays(tmp_path, "m")
    array = resumable.array("itm", (size,))
    array[:] = values
    resumable.prove("itm", np.array([0, 5, 3 * module.BLOCK]))
    resumable.prove("itm", range(module.BLOCK, module.BLOCK + 9))
    assert blocks_left() == [True, True, False, True]
    array[2 * module.BLOCK : 3 * module.BLOCK] = values[2 * module.BLOCK : 3 * module.BLOCK]
    resumable.prove("itm", range(2 * module.BLOCK, 3 * module.BLOCK))
    assert blocks_left() == [True] * 4
    file = resumable.folder / "itm.f32"
    content = bytearray(file.read_bytes())
    content[4 * module.BLOCK + 17] ^= 1
    file.write_bytes(content)
    assert blocks_left() == [True, False, True, True]


def test_results_without_checksums_are_not_believed(tmp_path):
    resumable = ResumableArrays(tmp_path, "m")
    resumable.array("itm", (5,))[:] = 1
    resumable.prove("itm", range(5))
    (resumable.folder / "itm.crc").unlink()
    assert np.isnan(ResumableArrays(tmp_path, "m").array("itm", (5,))).all()


def test_large_arrays_are_filled_piece_by_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FILL", 4)
    assert np.isnan(ResumableArrays(tmp_path, "m").array("itm", (11,))).all()


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ResumableArrays() as resumable:
        resumable.array("itm", (5,))[:] = 1
        assert np.isnan(resumable.array("itm", (5,))).all()
        resumable.finish()
    assert list(tmp_path.iterdir()) == []


def test_finishing_removes_the_results_and_nothing_else(tmp_path):
    root = tmp_path / "eval"
    with ResumableArrays(root, "a") as one, ResumableArrays(root, "b") as two:
        array = one.array("itm", (5,))
        two.array("itm", (5,))[:] = 7
        two.prove("itm", np.arange(5))
        one.finish()
        array[0] = 1  # still mapped: a run file may yet be written from it
        assert [path.name for path in root.iterdir()] == [two.folder.name]
    with ResumableArrays(root, "b") as two:
        assert (two.array("itm", (5,)) == 7).all()
        two.finish()
    assert not root.exists()


def test_a_folder_that_was_there_before_stays(tmp_path):
    with ResumableArrays(tmp_path, "a", keep_root=True) as resumable:
        resumable.array("itm", (5,))
        resumable.finish()
    assert list(tmp_path.iterdir()) == []


def test_one_process_at_a_time(tmp_path):
    with ResumableArrays(tmp_path, "a"):
        with pytest.raises(BtError, match="another process is at this evaluation; wait for it, or --no-resume"):
            ResumableArrays(tmp_path, "a").__enter__()
        with ResumableArrays(tmp_path, "b"):
            pass
    with ResumableArrays(tmp_path, "a"):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unwritable, match="can't be made"), ResumableArrays(tmp_path / "file", "a"):
        pass

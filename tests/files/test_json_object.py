"""One JSON object from a file: what is taken, and what is refused in one line that names the file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_cli.errors import BadConfig, BrokenCheckpoint, BtError, NotFound
from bt_cli.files.json_object import LARGEST, SETTINGS, read_json_object

SCALARS = st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner), max_leaves=12
)


@given(values=st.dictionaries(st.text(), VALUES))
def test_an_object_comes_back_unless_a_number_is_not_finite(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, object]
) -> None:
    path = tmp_path_factory.mktemp("json") / "x.json"
    text = json.dumps(values)
    path.write_text(text, encoding="utf-8")
    try:
        strict = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    except pytest.fail.Exception:
        with pytest.raises(BadConfig, match="but has to be a number that fits"):
            read_json_object(path, BadConfig)
    else:
        assert read_json_object(path, BadConfig) == strict == values


@given(content=st.binary(max_size=60))
def test_any_content_is_an_object_or_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("json") / "x.json"
    path.write_bytes(content)
    try:
        values = read_json_object(path, BadConfig)
    except BadConfig as error:
        line = str(error)
        assert line.startswith(f"{path}: ")
        assert "\n" not in line
    else:
        assert isinstance(values, dict)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON (Expecting value: line 1 column 1 (char 0)); fetch it again"),
        (b"\xff{}", "not UTF-8 text (byte 0)"),
        (b"[1, 2]", "holds a list, but has to be a JSON object"),
        (b'"x"', "holds a text, but has to be a JSON object"),
        (b"null", "holds null, but has to be a JSON object"),
        (b"true", "holds true or false, but has to be a JSON object"),
        (b"1.5", "holds a number, but has to be a JSON object"),
        (b'{"a": 1, "b": NaN}', "b is nan, but has to be a number that fits 64-bit floating point"),
        (b'{"a": {"b": [0, 1e999]}}', "a.b[1] is inf, but has to be a number that fits 64-bit floating point"),
        (b'{"a": [{"b": -Infinity}]}', "a[0].b is -inf, but has to be a number that fits 64-bit floating point"),
        (
            b'{"a": -1' + b"0" * 400 + b"}",
            "a is a number of 401 digits, but has to be a number that fits 64-bit floating point",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(BrokenCheckpoint) as caught:
        read_json_object(path, BrokenCheckpoint, way_out="fetch it again")
    assert str(caught.value) == f"{path}: {message}"


def test_a_byte_order_mark_is_no_part_of_the_object(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json_object(tmp_path / "x.json", BadConfig) == {"a": 1}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a POSIX pipe: run on Linux or macOS")
def test_only_a_regular_file_of_a_bounded_size_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(LARGEST + 1)
    (tmp_path / "kernels").symlink_to("/proc/kmsg" if os.path.exists("/proc/kmsg") else "/dev/zero")
    with pytest.raises(BadConfig, match="large: more than 4 MiB, too large for what it is named$"):
        read_json_object(tmp_path / "large", BadConfig, limit=SETTINGS)
    refused: dict[Path, tuple[type[BtError], str]] = {
        tmp_path / "pipe": (BadConfig, "not a regular file"),
        tmp_path / "zeros": (BadConfig, "not a regular file"),
        tmp_path / "kernels": (BadConfig, "not a regular file"),
        tmp_path: (BadConfig, "not a regular file"),
        tmp_path / "large": (BadConfig, "more than 64 MiB, too large for what it is named"),
        tmp_path / "none": (NotFound, "no such file"),
        tmp_path / "large" / "below": (NotFound, "no such file"),
        tmp_path / ("x" * 300): (BadConfig, "can't be read: File name too long"),
    }
    for path, (kind, message) in refused.items():
        with pytest.raises(kind) as caught:
            read_json_object(path, BadConfig)
        assert str(caught.value) == f"{path}: {message}"


def test_what_a_missing_file_means_is_for_the_caller_to_say(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="none: no such recipe$"):
        read_json_object(tmp_path / "none", BadConfig, missing="no such recipe", missing_error=BadConfig)

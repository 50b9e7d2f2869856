"""Lists of addresses: what is one, and what each of its lines says."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bt_cli.sources.url_list import is_url_list, read_url_list

A, B = "https://example.org/a b?x=1".replace(" ", "%20"), "http://example.org/ä.jpg"

LISTS = {
    "plain.txt": f"# from a crawl\n\n{A}\n{B}\n",
    "windows.txt": f"\ufeff{A}\r\n{B}\r\n",
    "captions.csv": f'caption,url,width\n"a, b",{A},3\n"two\nlines",{B},4\n',
    "no header.tsv": f"a red car\t{A}\ntwo dogs\t{B}\n",
    "conceptual.txt": f"a red car\t{A}\ntwo dogs\t{B}\n",
    "other names.csv": f"text,where\nx,{A}\ny,{B}\n",
    "upper.csv": f"URL,TEXT\n{A},x\n{B},y\n",
    "rows.jsonl": "".join(json.dumps({"url": url, "text": "x"}) + "\n" for url in (A, B)),
}


@pytest.mark.parametrize("name", LISTS)
def test_addresses_come_in_order_from_every_form(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text(LISTS[name], "utf-8", newline="")
    assert is_url_list(str(file))
    assert [listed.url for listed in read_url_list(str(file))] == [A, B]


def test_a_parquet_table_with_a_column_of_addresses(tmp_path: Path) -> None:
    file = str(tmp_path / "laion.parquet")
    pyarrow.parquet.write_table(pa.table({"TEXT": ["x", "y", "z"], "URL": [A, None, B]}), file, row_group_size=1)
    assert is_url_list(file)
    found = list(read_url_list(file))
    assert [listed.url for listed in found] == [A, None, B]
    assert (found[1].place, found[1].reason) == (f"{file}:1", "no address")
    pyarrow.parquet.write_table(pa.table({"url": ["no", "addresses"]}), file)
    assert not is_url_list(file)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.txt", "my notes\nhttps://example.org/a.jpg\n"),
        ("captions.csv", "image,caption\na.jpg,see https://example.org\n"),
        ("picture.jpg", A),
        ("empty.txt", ""),
        ("sentence.txt", "http://example.org is down\n"),
        ("binary.txt", "http://a\0b"),
        ("rows.jsonl", '{"image": "a.jpg"}\n'),
        ("ftp.txt", "ftp://example.org/a.jpg\n"),
        ("not really.parquet", "PAR1 but no table"),
    ],
)
def test_what_is_no_list(tmp_path: Path, name: str, content: str) -> None:
    file = tmp_path / name
    file.write_text(content)
    assert not is_url_list(str(file))


def test_lines_that_are_no_addresses_are_named_with_their_number(tmp_path: Path) -> None:
    file = tmp_path / "urls.csv"
    file.write_text(f"url,caption\n{A},x\nexample.org/b.jpg,y\n\n,z\nshort\n{B},w\n")
    found = [(listed.place, listed.url, listed.reason) for listed in read_url_list(str(file))]
    assert found == [
        (f"{file}:2", A, ""),
        (f"{file}:3", None, "no address: example.org/b.jpg"),
        (f"{file}:5", None, "no address"),
        (f"{file}:6", None, "no address: short"),
        (f"{file}:7", B, ""),
    ]


@given(
    lines=st.lists(st.one_of(st.text(), st.sampled_from([A, B]), st.text(string.printable)), max_size=12),
    suffix=st.sampled_from([".txt", ".csv", ".tsv", ".jsonl"]),
)
def test_any_text_gives_addresses_or_reasons(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], suffix: str
) -> None:
    file = tmp_path_factory.mktemp("lists") / f"list{suffix}"
    file.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    is_list = is_url_list(str(file))
    found = list(read_url_list(str(file)))
    assert all((listed.url is None) == bool(listed.reason) for listed in found)
    assert not is_list or found[0].url is not None

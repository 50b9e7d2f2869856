"""`--server`: the same output as without, and nothing heavy imported."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest


@pytest.fixture
def there(library, monkeypatch):
    monkeypatch.chdir(library)
    monkeypatch.setenv("BT_DTYPE", "float32")


def rounded(text: str) -> str:
    """Without times and rates, and numbers to four digits: batches of another size move the last."""
    text = re.sub(r"in \d+\.\d+ s|, [\d.,]+ images/s|, limited by .*", "", text)
    return re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.3f}", text)


@pytest.mark.parametrize(
    "arguments",
    [
        ["search", "a red car", "-k", "3"],
        ["search", "a red car", "-k", "3", "--json"],
        ["search", "a dog", "--rerank", "--candidates", "5", "--json"],
        ["search", "--add", "2:a dog", "--subtract", "a cat", "--glob", "./scene-000*", "--paths"],
        ["search", "--image", "scene-0003.jpg", "--to", "captions", "--json"],
        ["rerank", "a dog", "scene-0001.jpg", "scene-0002.jpg", "captions.csv", "--model", "tiny", "--json"],
        ["score", "scene-0001.jpg", "a dog", "a cat", "--model", "tiny"],
        ["score", "--image", "scene-0001.jpg", "--image", "captions.csv", "a dog", "--model", "tiny", "--json"],
        ["fill-mask", "a <mask> above a <mask>", "--image", "scene-0001.jpg", "-k", "2", "--model", "tiny"],
        ["fill-mask", "a <mask> dog", "--image", "scene-0001.jpg", "--model", "tiny", "--json"],
        ["score", "nowhere.jpg", "a dog", "--model", "tiny"],
    ],
)
def test_a_server_answers_as_the_command_does(bt, served, there, arguments):
    here = bt(*arguments)
    plain = [word for word in arguments if word not in ("--model", "tiny")]
    ran = bt(*plain, "--server", served.url)
    assert (ran.code, rounded(ran.out)) == (here.code, rounded(here.out))
    assert rounded(ran.err) == rounded(here.err)


def test_lines_of_a_search_are_reranked_by_the_server(bt, served, there, monkeypatch):
    monkeypatch.setenv("BT_SERVER", served.url)
    lines = bt("search", "a dog", "-k", "4", "--json").out_bytes
    ran = bt("rerank", "a dog", "--json", stdin=lines)
    assert sorted(hit["id"] for hit in ran.objects) == sorted(
        hit["id"] for hit in bt("search", "a dog", "-k", "4", "--json").objects
    )
    assert all(hit["itm_prob"] is not None and hit["itc"] is not None for hit in ran.objects)


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (
            ["--server", "http://127.0.0.1:9"],
            1,
            "bt: http://127.0.0.1:9: Connection refused; is `bt serve` running there?",
        ),
        (["--server", "ftp://x"], 2, "bt: --server ftp://x: no address of a server, as http://127.0.0.1:7788 is"),
        (["--server", "http://127.0.0.1:9", "--model", "tiny"], 2, "bt: --model is the server's to choose"),
    ],
)
def test_what_can_not_be_asked_is_one_line(bt, arguments, code, line):
    ran = bt("search", "a dog", *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith(line)


def test_a_search_by_server_imports_nothing_heavy(served, there):
    code = (
        "import sys\nfrom bt_cli.commands.app import main\n"
        f"code = main(['search', 'a dog', '--server', {served.url!r}])\n"
        "print(code, *[name for name in ('torch', 'numpy', 'PIL', 'pyarrow', 'starlette') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "0", ran.stderr

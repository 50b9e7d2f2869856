"""The command line as a whole: help without heavy imports, versions, errors as one line, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

import bt_cli
from bt_cli.arguments.options import Device, Dtype, Index, Model
from bt_cli.commands import app as app_module
from bt_cli.commands.app import COMMANDS, main
from bt_cli.errors import MissingHead, Misuse

HEAVY = ("torch", "faiss", "pyarrow", "numpy", "PIL", "transformers", "tokenizers", "safetensors", "huggingface_hub")


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, run) -> None:
    """Put a function in the place of a command's module."""
    module = types.ModuleType(f"bt_cli.commands.{name}")
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)


def built_commands() -> list[str]:
    folder = Path(app_module.__file__).parent
    return [name for name in COMMANDS if (folder / f"{name.replace('-', '_')}.py").exists()]


def heavy_imports_of(*arguments: str) -> set[str]:
    """Run bt in a fresh interpreter and return which heavy modules it imported; asserts that it succeeded."""
    code = (
        "import sys\nfrom bt_cli.commands.app import main\n"
        f"code = main({list(arguments)!r})\n"
        f"print('\\nHEAVY', code, *[name for name in {HEAVY!r} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    _, status, *heavy = ran.stdout.splitlines()[-1].split()
    assert status == "0", ran.stderr
    return set(heavy)


def test_help_lists_every_command_and_imports_nothing_heavy(bt) -> None:
    assert heavy_imports_of("--help") == set()
    ran = bt("--help")
    assert ran.code == 0
    assert ran.err == ""
    listed = [line.split()[0] for line in ran.out.split("Commands:\n")[1].splitlines()]
    assert listed == list(COMMANDS)
    assert listed[listed.index("serve") :][:2] == ["serve", "mcp"]
    assert "..." not in ran.out.split("Commands:\n")[1]


@pytest.mark.parametrize("command", built_commands())
def test_command_help_imports_nothing_heavy(command: str) -> None:
    assert heavy_imports_of(command, "--help") == set()


def test_no_arguments_is_help(bt) -> None:
    assert bt().out == bt("-h").out == bt("--help").out


def test_version(bt) -> None:
    import bt_cli

    ran = bt("--version")
    assert (ran.code, ran.out, ran.err) == (0, f"bt {bt_cli.__version__}\n", "")


def test_package_import_is_light_and_names_are_lazy() -> None:
    code = f"import sys, bt_cli; assert 'load' in dir(bt_cli); print([n for n in {HEAVY!r} if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    import bt_cli

    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = bt_cli.lod


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["server"], "bt: no such command 'server'"),
        (["--verbose"], "bt: no such option: --verbose"),
        (
            ["info", "--device", "tpu"],
            "bt: invalid value for '--device' (env var: 'BT_DEVICE'): "
            "'tpu' is no device: auto, cpu, cuda, cuda:N or mps",
        ),
        (
            ["info", "--dtype", "fp8"],
            "bt: invalid value for '--dtype' (env var: 'BT_DTYPE'): "
            "'fp8' is no precision: auto, float32, bfloat16 or int8",
        ),
    ],
)
def test_misuse_is_one_line_and_exit_2(bt, monkeypatch, arguments: list[str], line: str) -> None:
    def run(device: Device = "auto", dtype: Dtype = "auto") -> None:
        raise AssertionError("not reached")

    stand_in(monkeypatch, "info", run)
    ran = bt(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith(line)
    assert ran.err.count("\n") == 1
    assert "--help)" in ran.err


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (MissingHead("m has no ITM head"), 1, "bt: m has no ITM head\n"),
        (Misuse("the query is empty"), 2, "bt: the query is empty\n"),
        (
            FileNotFoundError(2, "No such file or directory", "x\ny.png"),
            1,
            "bt: x\\ny.png: No such file or directory\n",
        ),
        (OSError(28, "No space left on device"), 1, "bt: No space left on device\n"),
        (KeyboardInterrupt(), 130, "bt: interrupted\n"),
        (ValueError("a\nb"), 1, "bt: unexpected ValueError: a; b (BT_DEBUG=1 shows where)\n"),
        (MemoryError(), 1, "bt: out of memory; a smaller --batch-size or a smaller checkpoint needs less\n"),
        (BrokenPipeError(32, "Broken pipe"), 0, ""),
    ],
)
def test_exceptions_become_one_line_and_an_exit_code(bt, monkeypatch, error, code: int, line: str) -> None:
    def run() -> None:
        raise error

    stand_in(monkeypatch, "info", run)
    ran = bt("info")
    assert (ran.code, ran.out, ran.err) == (code, "", line)


def test_debugging_shows_the_traceback(bt, monkeypatch) -> None:
    def run() -> None:
        raise ValueError("deep")

    stand_in(monkeypatch, "info", run)
    monkeypatch.setenv("BT_DEBUG", "1")
    ran = bt("info")
    assert ran.code == 1
    assert "Traceback" in ran.err
    assert ran.err.endswith("bt: unexpected ValueError: deep (BT_DEBUG=1 shows where)\n")


def test_environment_stands_for_options(bt, monkeypatch) -> None:
    seen: dict[str, object] = {}

    def run(model: Model = None, device: Device = "auto", dtype: Dtype = "auto", index: Index = None) -> None:
        seen.update(model=model, device=device, dtype=dtype, index=index)

    stand_in(monkeypatch, "info", run)
    for name, value in {"MODEL": "tiny", "DEVICE": "cuda:1", "DTYPE": "int8", "INDEX": "/x"}.items():
        monkeypatch.setenv(f"BT_{name}", value)
    assert bt("info", "--model", "other").code == 0
    assert seen == {"model": "other", "device": "cuda:1", "dtype": "int8", "index": Path("/x")}


def test_closed_stdout_ends_quietly(tmp_path: Path) -> None:
    """`bt ... | head -0`: no traceback, no message, and the exit code of a command that has done its work."""
    code = "import sys, os; from bt_cli.commands.app import main; os.close(0); sys.exit(main(['--help']))"
    read, write = os.pipe()
    os.close(read)
    ran = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("closed", ["1", "2", "1 and 2"])
def test_streams_closed_by_the_caller_are_no_failure(closed: str) -> None:
    """`bt ... >&-`, as cron jobs and daemons do."""
    command = f"{sys.executable} -m bt_cli --version" + "".join(f" {number}>&-" for number in closed.split(" and "))
    ran = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == ("" if "1" in closed else f"bt {bt_cli.__version__}\n")


def test_completion_knows_the_commands(tmp_path: Path) -> None:
    def complete(words: str, position: int) -> list[str]:
        asked = {"_BT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(position)}
        ran = subprocess.run(
            [sys.executable, "-m", "bt_cli"], env={**os.environ, **asked}, capture_output=True, text=True
        )
        assert (ran.returncode, ran.stderr) == (0, "")
        return ran.stdout.split()

    assert complete("bt s", 1) == ["search", "score", "show", "serve"]


def test_main_is_the_entry_point() -> None:
    assert main(["--version"]) == 0


@pytest.mark.parametrize("length", [400, 401, 2_000_000])
def test_an_error_is_never_longer_than_a_few_lines_of_a_terminal(length: int) -> None:
    message = "broken.safetensors: " + "8, " * length + "; get it again"
    message = message[:20] + message[20 + len(message) - length :]
    assert len(message) == length
    shown = app_module.shortened(message)
    assert len(shown) == 400
    assert shown.startswith("broken.safetensors: ")
    assert shown.endswith("; get it again")
    assert (shown == message) == (length == 400)


def test_a_long_name_in_an_error_leaves_one_short_line(bt) -> None:
    ran = bt("models", "info", "x" * 100_000)
    assert ran.code != 0
    assert len(ran.err) <= len("bt: ") + 400 + 1
    assert " ... " in ran.err


def test_words_without_quotes_are_answered_with_the_way_out(bt) -> None:
    ran = bt("search", "a", "red", "car")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        "bt: got unexpected extra argument(s) (red car); a text of several words needs quotes (see bt search --help)\n"
    )

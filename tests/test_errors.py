"""The exceptions of bt: every one of them stands in the tree that the module begins with."""

from __future__ import annotations

import inspect
import re

from bt_cli import errors


def test_the_tree_names_every_exception_once() -> None:
    named = re.findall(r"[├└]── (\w+)", inspect.getdoc(errors) or "")
    defined = [name for name, kind in vars(errors).items() if inspect.isclass(kind) and kind is not errors.BtError]
    assert sorted(named) == sorted(defined)
    also = {"BadInput": (ValueError,)}  # where code written for the port expects Python's own
    assert all(getattr(errors, name).__bases__ == (errors.BtError, *also.get(name, ())) for name in named)


def test_misuse_alone_has_an_exit_code_of_its_own() -> None:
    codes = {kind.exit_code for kind in errors.BtError.__subclasses__() if kind is not errors.Misuse}
    assert (errors.Misuse.exit_code, codes) == (2, {1})

"""The public names are documented as the field does it: numpydoc, with examples that run."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

FACES = ("analytics", "cointegration", "features", "indicators", "resampling", "backtest")
KEYSTONES = (
    ("pairs.analytics.pair", "pair_view"),
    ("pairs.analytics.pair", "PairSpec"),
    ("pairs.backtest.grid", "grid"),
    ("pairs.backtest.walk_forward", "walk_forward"),
    ("pairs.storage.database", "open_store"),
)
PUBLIC = [
    (face, name)
    for face in FACES
    for name in importlib.import_module(face).__all__
    if callable(getattr(importlib.import_module(face), name))
] + list(KEYSTONES)


def sections(doc: str) -> dict[str, str]:
    """Title → text of the sections of a numpydoc docstring."""
    parts = re.split(r"^([A-Z][A-Za-z ]+)\n-{3,}$", inspect.cleandoc(doc), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def described(section: str) -> set[str]:
    """The names that a section of parameters or attributes describes."""
    lines = re.findall(r"^([\w, *]+?)(?: :.*)?$", section, flags=re.M)
    return {name.strip().lstrip("*") for line in lines for name in line.split(",")}


def fields(thing: type) -> set[str]:
    if dataclasses.is_dataclass(thing):
        return {field.name for field in dataclasses.fields(thing)}
    return set(getattr(thing, "_fields", getattr(thing, "__annotations__", {})))


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_a_public_name_says_all_it_takes_and_gives(module: str, name: str) -> None:
    thing: Any = getattr(importlib.import_module(module), name)
    found = sections(thing.__doc__ or "")
    if inspect.isclass(thing):
        assert fields(thing) <= described(found.get("Attributes", found.get("Parameters", "")))
        return
    parameters = inspect.signature(thing).parameters.keys()
    assert set(parameters) <= described(found.get("Parameters", ""))
    assert "Returns" in found
    example = found.get("Examples", "")
    assert ">>>" in example


def test_the_page_of_the_api_has_every_public_name() -> None:
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    for module, name in PUBLIC:
        home = getattr(importlib.import_module(module), name).__module__
        assert f"::: {home}.{name}\n" in page


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_the_example_of_a_public_name_runs(module: str, name: str) -> None:
    home = importlib.import_module(module)
    thing: Any = getattr(home, name)
    finder = doctest.DocTestFinder(recurse=False)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    tests = finder.find(thing, name, module=False, globs={**vars(home)})  # type: ignore[arg-type]
    for test in tests:
        runner.run(test)
    assert runner.failures == 0

"""The oracle and the hand-made people as modules, for every test of this folder: importlib mode has no sibling imports."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _load(module: str) -> ModuleType:
    name = f"tests_features_{module}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{module}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def oracle() -> ModuleType:
    return _load("oracle")


@pytest.fixture(scope="session")
def people() -> ModuleType:
    return _load("people")

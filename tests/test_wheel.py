"""What an installed Rekindle must bring along."""

import importlib.metadata
import importlib.resources

import pytest


@pytest.mark.parametrize("package", ["features", "training", "serving", "monitoring"])
def test_the_packages_are_installed(package: str) -> None:
    files = {str(file) for file in importlib.metadata.files("rekindle") or []}
    editable = any("__editable__" in file or file.endswith(".pth") for file in files)
    assert editable or f"{package}/__init__.py" in files


@pytest.mark.parametrize(
    "name",
    ["tools.yaml", "interventions.yaml", "feature_store.yaml", ".feastignore", "migrations/env.py", "text/model.json"],
)
def test_the_data_files_are_installed(name: str) -> None:
    assert importlib.resources.files("features").joinpath(name).is_file()


def test_no_test_is_installed() -> None:
    files = {str(file) for file in importlib.metadata.files("rekindle") or []}
    assert not [file for file in files if file.startswith(("tests/", "benchmarks/"))]


def test_the_version_is_known() -> None:
    assert importlib.metadata.version("rekindle")

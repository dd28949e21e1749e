"""The functions' zip: the same bytes every time, complete, and without what Lambda has no use for."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
import trustme

import cqrsctl
from cqrsctl.errors import ConfigurationError
from cqrsctl.functions import declarations, package
from cqrsctl.functions.function import code_sha256
from cqrsctl.functions.package import PackagingError
from cqrsctl.projection.definition import default_product

if TYPE_CHECKING:
    from collections.abc import Callable

PRODUCT = default_product()
ROOT = Path(cqrsctl.__file__).parent
BUILD = (
    "import sys; from cqrsctl.functions import package; from cqrsctl.projection.definition import default_product; "
    "assert package.__file__.startswith(sys.argv[1]); sys.stdout.buffer.write(package.build([default_product()]))"
)
BARE = """
import importlib, sys
task, libraries, *modules = sys.argv[1:]
refused = {"typer", "click", "rich", "msgspec", "moto", "tenacity", "platformdirs", "cryptography", "pydantic"}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in refused:
            raise ImportError(f"{name} is not in Lambda")

sys.meta_path.insert(0, Refuse())
sys.path += [task, libraries]
for name in modules:
    importlib.import_module(name)
from cqrsctl.functions import handlers
assert callable(handlers.command) and callable(handlers.projector)
ours = [module.__file__ for name, module in sys.modules.items()
        if name.split(".")[0] in {"cqrsctl", "pymysql"} and getattr(module, "__file__", None)]
assert ours and all(file.startswith(task) for file in ours), ours
"""


def unzipped(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def authority(folder: Path) -> Path:
    path = folder / "authority.pem"
    trustme.CA().cert_pem.write_to_path(path)
    return path


def test_the_zip_loads_in_a_bare_interpreter_with_what_lambda_has(tmp_path: Path) -> None:
    content = package.build([PRODUCT])
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(tmp_path)
    modules = [
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in unzipped(content)
        if name.startswith("cqrsctl/") and name.endswith(".py")
    ]
    libraries = str(Path(boto3.__file__).parent.parent)

    subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-W", "error", "-c", BARE, str(tmp_path), libraries, *modules],
        check=True,
        timeout=60,
    )

    assert {"cqrsctl.functions.handlers", "cqrsctl.read_model.sink"} <= set(modules)


def test_the_zip_has_what_the_handlers_need_and_nothing_else() -> None:
    files = unzipped(package.build([PRODUCT]))

    assert {name.split("/")[0] for name in files} == {"cqrsctl", "pymysql"}
    assert {Path(name).suffix for name in files} == {".py", ".json"}
    rooms = {name.split("/")[1] for name in files if name.startswith("cqrsctl/")}
    assert not rooms & {"cli", "pipeline", "diagnosis", "local"}
    assert "cqrsctl/__init__.py" in files
    assert "cqrsctl/wire.py" not in files
    assert "cqrsctl/functions/package.py" not in files
    assert files["cqrsctl/codec.py"] == (ROOT / "codec.py").read_bytes()
    assert declarations.from_json(files["cqrsctl/functions/declarations.json"].decode()) == (PRODUCT,)


def test_the_same_sources_are_the_same_bytes_wherever_they_stand(tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "cqrsctl"
    shutil.copytree(ROOT, copy, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("__pycache__"))
    for path in copy.rglob("*.py"):
        path.chmod(0o600)
        os.utime(path, (1_000_000_000, 1_000_000_000))
    variables = {"PYTHONPATH": str(copy.parent), "PYTHONHASHSEED": "7", "TZ": "Asia/Kathmandu", "HOME": str(tmp_path)}

    made = [
        subprocess.run(
            [sys.executable, "-c", BUILD, str(copy)],
            env=variables,
            cwd=tmp_path,
            umask=umask,
            capture_output=True,
            check=True,
        ).stdout
        for umask in (0o077, 0o000)  # the second time there are compiled files beside the sources
    ]

    assert made == [package.build([PRODUCT])] * 2


def test_windows_makes_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    here = package.build([PRODUCT])
    monkeypatch.setattr(sys, "platform", "win32")  # what zipfile asks for its entries' default

    assert package.build([PRODUCT]) == here


def test_entries_are_in_order_readable_by_all_and_without_a_time() -> None:
    with zipfile.ZipFile(io.BytesIO(package.build([PRODUCT]))) as archive:
        entries = archive.infolist()

    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644}
    assert {entry.create_system for entry in entries} == {3}


def test_the_zip_stays_below_a_megabyte_with_a_bundle_as_large_as_that_of_rds(tmp_path: Path) -> None:
    bundle = authority(tmp_path)
    one = bundle.read_bytes()
    bundle.write_bytes(one * (200_000 // len(one) + 1))

    content = package.build([PRODUCT], bundle)

    assert len(content) < 1_000_000
    assert unzipped(content)["cqrsctl/functions/ca-bundle.pem"] == bundle.read_bytes()


def test_other_projections_are_another_zip() -> None:
    assert package.build([PRODUCT]) != package.build([PRODUCT, PRODUCT])


def test_the_checksum_is_the_one_that_lambda_reports() -> None:
    assert base64.b64decode(code_sha256(b"zip")) == hashlib.sha256(b"zip").digest()


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), (b"", "no certificates"), (b"x", "no cert")])
def test_an_unusable_bundle_is_refused(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "bundle.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"database.ca_bundle: .*{reason}") as raised:
        package.build([PRODUCT], path)
    assert raised.value.code == "tls"


def installed_in(folder: Path, *names: str) -> Callable[[str], ModuleSpec | None]:
    """Finds a PyMySQL of these files."""
    for name in names:
        path = folder / "pymysql" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def find(name: str) -> ModuleSpec | None:
        if not names:
            return None
        return ModuleSpec(name, None, origin=str(folder / "pymysql" / names[0]), is_package=True)

    return find


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ((), "is not installed"),
        (("__init__.py", "_fast.cpython-311-x86_64-linux-gnu.so"), "with compiled files"),
        (("__init__.pyc",), "is not installed as Python files"),
    ],
)
def test_a_driver_that_is_missing_or_not_pure_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], reason: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", installed_in(tmp_path, *names))
    with pytest.raises(PackagingError, match=reason) as raised:
        package.build([PRODUCT])
    assert "pip install" in str(raised.value.hint).replace("-m pip", "pip")

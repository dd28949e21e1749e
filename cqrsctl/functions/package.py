"""The zip that both Lambda functions run from: installed Python files and the projections' declarations.

It is the same bytes for the same sources, wherever and by whomever it is made; so nothing is compressed, as what
that gives depends on the library that does it. Nothing is fetched.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import ssl
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from cqrsctl.errors import ConfigurationError, CqrsctlError
from cqrsctl.functions import declarations
from cqrsctl.functions.parts import HANDLERS
from cqrsctl.functions.settings import CA_BUNDLE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cqrsctl.projection.definition import Projection


_ROOT = Path(__file__).parent.parent
_DRIVER = "pymysql"
_FOLDER = "cqrsctl/functions"
_EARLIEST = (1980, 1, 1, 0, 0, 0)
_FILE_MODE = 0o100644
_UNIX = 3


class PackagingError(CqrsctlError):
    """The zip cannot be made of what is installed."""

    code = "packaging"


def build(projections: Sequence[Projection], ca_bundle: Path | None = None) -> bytes:
    """The zip; `ca_bundle` has the authorities that the database's certificate may come from.

    Raises ConfigurationError if the bundle is unusable, PackagingError.
    """
    files = {f"{_FOLDER}/{declarations.FILE_NAME}": declarations.to_json(projections).encode()}
    if ca_bundle is not None:
        files[f"{_FOLDER}/{CA_BUNDLE_NAME}"] = _certificates(ca_bundle)
    for module, path in modules().items():
        files[_zip_path(module, path)] = path.read_bytes()
    files |= _driver()
    return _zipped(files)


def modules() -> dict[str, Path]:
    """The modules of cqrsctl that the handlers need, directly or not, each with its file."""
    found: dict[str, Path] = {}
    to_do = ["cqrsctl", HANDLERS]
    while to_do:
        module = to_do.pop()
        path = _source(module)
        if path is not None and module not in found:
            found[module] = path
            to_do += imported(path)
    return found


def imported(path: Path) -> list[str]:
    """The names that a file imports when it runs, those of modules among them; not what is for type checkers only."""
    names: list[str] = []
    for node in _running(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes, save for those under `if TYPE_CHECKING:`."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield from _running(child)


def _source(module: str) -> Path | None:
    """The file of a module of cqrsctl; None for other modules, folders, and names within a module."""
    top, *rest = module.split(".")
    if top != "cqrsctl":
        return None
    place = _ROOT.joinpath(*rest)
    found = (path for path in (place / "__init__.py", place.with_name(place.name + ".py")) if path.is_file())
    return next(found, None)


def _zip_path(module: str, path: Path) -> str:
    folder = module.replace(".", "/")
    return f"{folder}/__init__.py" if path.name == "__init__.py" else f"{folder}.py"


def _driver() -> dict[str, bytes]:
    """PyMySQL's files as installed."""
    spec = importlib.util.find_spec(_DRIVER)
    if spec is None or spec.origin is None or spec.submodule_search_locations is None:
        raise PackagingError("PyMySQL is not installed.", hint="Install it with: pip install pymysql")
    folder = Path(spec.origin).parent
    if Path(spec.origin).name != "__init__.py" or not folder.is_dir():
        raise PackagingError(f"PyMySQL is not installed as Python files ({spec.origin}).", hint=_hint())
    paths = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    compiled = sorted(path.name for path in paths if path.suffix in {".so", ".pyd", ".dylib", ".pyc"})
    if compiled:
        raise PackagingError(f"PyMySQL is installed with compiled files ({', '.join(compiled)}).", hint=_hint())
    return {
        f"{_DRIVER}/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in paths if path.suffix == ".py"
    }


def _hint() -> str:
    """Lambda may have another machine and another Python than this one."""
    return f"Install it again: {sys.executable} -m pip install --force-reinstall pymysql"


def _certificates(path: Path) -> bytes:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        return path.read_bytes()
    except OSError as error:
        reason = "it holds no certificates (PEM)" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigurationError(
            f"database.ca_bundle: {path} cannot be used: {reason}.",
            hint="For RDS, AWS's global-bundle.pem.",
            code="tls",
        ) from error


def _zipped(files: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _EARLIEST)
            entry.create_system = _UNIX
            entry.external_attr = _FILE_MODE << 16
            archive.writestr(entry, files[name])
    return written.getvalue()

"""An installed kproxy is found by twistd, and leaves Twisted's own files alone.

Every environment here holds a copy of Twisted itself, since kproxy puts a file into Twisted's
folder, and borrows the rest of the dependencies from the environment that runs the tests.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import twisted

ROOT = Path(__file__).parents[2]
SOURCES = ["setup.cfg", "setup.py", "pyproject.toml", "README.md", "LICENSE", "kproxy", "twisted"]
NO_LITTER = shutil.ignore_patterns("__pycache__", "dropin.cache", "*.egg-info")
NO_LITTER_NOR_TESTS = shutil.ignore_patterns("__pycache__", "dropin.cache", "test", "kproxy_*")

TWISTD_HELP = (
    "import sys; sys.argv = ['twistd', '--help']; from twisted.scripts.twistd import run; run()"
)
PLUGIN = "import twisted.plugins.kproxy_plugin as p; print(p.__file__)"
SOMEONES_WRAPPER = "import kproxy.plugins.someones as s; print(s.__file__)"


NOT_COMPILED = {"KPROXY_COMPILE": "0"}
"""It would take a minute each time: see `make test-compiled`."""


def run(*command: str | Path, cwd: Path, environment: Mapping[str, str] = NOT_COMPILED) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


class Environment:
    """A virtual environment with a Twisted of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder, symlinks=True)
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        self.packages = folder / "lib" / version / "site-packages"
        shutil.copytree(
            Path(twisted.__file__).parent, self.packages / "twisted", ignore=NO_LITTER_NOR_TESTS
        )
        borrowed = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
        (self.packages / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
        self.twisted_before = self.twisted_files()

    def install(self, *what: str | Path) -> None:
        self.pip("install", "--no-deps", "--no-index", "--no-build-isolation", *what)

    def pip(self, *arguments: str | Path) -> None:
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
        run(*pip, "--python", self.folder / "bin" / "python", *arguments, cwd=self.folder)

    def python(self, code: str) -> str:
        return run(self.folder / "bin" / "python", "-c", code, cwd=self.folder)

    def twisted_files(self) -> dict[str, str]:
        """Each file in Twisted's folder, but for caches, and the hash of its content."""
        folder = self.packages / "twisted"
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*")
            if path.is_file() and path.suffix != ".pyc" and path.name != "dropin.cache"
        }


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source, so that building leaves nothing in the checkout."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=NO_LITTER)
        else:
            shutil.copy(ROOT / name, folder)
    return folder


def build_wheel(source: Path, folder: Path, environment: Mapping[str, str]) -> Path:
    build = ("wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, *build, source, cwd=folder, environment=environment)
    (built,) = folder.glob("kproxy-*.whl")
    return built


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(source, tmp_path_factory.mktemp("wheel"), NOT_COMPILED)


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installed(
    request: pytest.FixtureRequest,
    source: Path,
    wheel: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Environment:
    environment = Environment(tmp_path_factory.mktemp(request.param))
    environment.install(*([wheel] if request.param == "wheel" else ["--editable", source]))
    return environment


def test_without_a_c_compiler_kproxy_is_installed_all_the_same(
    source: Path, wheel: Path, tmp_path: Path
) -> None:
    no_compiler = {"KPROXY_COMPILE": "", "CC": "/nonexistent/cc"}
    copy = shutil.copytree(source, tmp_path / "source")
    folder = tmp_path / "wheel"
    folder.mkdir()
    pure = build_wheel(copy, folder, no_compiler)
    with zipfile.ZipFile(wheel) as expected, zipfile.ZipFile(pure) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert names == {name for name in expected.namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_every_module_and_only_one_file_for_twisted(
    source: Path, wheel: Path
) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}

    ours = {str(path.relative_to(source)) for path in (source / "kproxy").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == {
        *ours,
        "twisted/plugins/kproxy_plugin.py",
    }
    assert {name.split("/")[0] for name in names} == {"kproxy", "twisted"}


def test_twistd_lists_kproxy(installed: Environment) -> None:
    assert "A reverse proxy that deploys without gaps." in installed.python(TWISTD_HELP)


def test_the_plugin_comes_from_where_kproxy_was_installed(
    installed: Environment, source: Path, request: pytest.FixtureRequest
) -> None:
    editable = "editable" in request.node.name
    home = source if editable else installed.packages
    assert installed.python(PLUGIN).strip() == str(home / "twisted/plugins/kproxy_plugin.py")


def test_the_plugin_does_not_import_kproxy(installed: Environment) -> None:
    imported = installed.python(f"{PLUGIN}; import sys; print('kproxy' in sys.modules)")
    assert imported.splitlines()[-1] == "False"


def test_twisteds_own_files_are_unharmed(installed: Environment) -> None:
    after = installed.twisted_files()
    after.pop("plugins/kproxy_plugin.py", None)
    assert after == installed.twisted_before


def test_the_command_is_installed(installed: Environment) -> None:
    assert (installed.folder / "bin" / "kproxy").is_file()


def test_other_distributions_add_wrappers_beside_ours(installed: Environment) -> None:
    theirs = installed.packages / "kproxy" / "plugins" / "someones.py"
    theirs.parent.mkdir(parents=True, exist_ok=True)
    theirs.write_text("")
    assert installed.python(SOMEONES_WRAPPER).strip() == str(theirs)


def test_an_uninstalled_kproxy_leaves_twisted_as_it_was(wheel: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "environment")
    environment.install(wheel)
    environment.pip("uninstall", "--yes", "kproxy")
    assert environment.twisted_files() == environment.twisted_before
    assert "kproxy" not in environment.python(TWISTD_HELP)

"""The direction of imports, and what the default path may not import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Who may import whom inside `tiktok_dm`, from the top down; a layer may import itself and all layers after it.
LAYERS = [
    {"cli", "__main__"},
    {"curate", "benchmark", "listening"},
    {"importers"},
    {"pipeline"},
    {"dataset"},
    {"synthetic", "reading", "pose", "visual", "audio", "runtime"},
    {"annotations"},
    {"media", "web_guard"},
    {"machine", "files", "shipped", "plugins", "network", "unpack"},
    {"schema"},
    {"errors", "__init__"},
]


def imports(path: Path) -> set[str]:
    """Absolute names of everything a module imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: write imports absolutely"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def part(name: str) -> str:
    """`tiktok_dm.pipeline.plan` -> `pipeline`."""
    return name.split(".")[1] if "." in name else "__init__"


def rank(name: str) -> int:
    for i, layer in enumerate(LAYERS):
        if name in layer:
            return i
    raise AssertionError(f"tiktok_dm.{name} has no layer: add it to docs/architecture.md and here")


@pytest.mark.parametrize("path", modules("tiktok_dm"), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_downwards(path: Path) -> None:
    here = path.relative_to(ROOT / "tiktok_dm").with_suffix("").parts[0]
    known = {p.relative_to(ROOT / "tiktok_dm").with_suffix("").parts[0] for p in modules("tiktok_dm")}
    for name in imports(path):
        assert not name.startswith("d2m_model"), f"{path} imports the model"
        assert name.split(".")[0] not in ("cv2", "mediapipe"), f"{path} imports {name}, which wants system libraries"
        if name.startswith("tiktok_dm.") and part(name) in known:
            assert rank(part(name)) >= rank(here), f"{path} imports {name}, which stands above it"


@pytest.mark.parametrize("package", ["tiktok_dm", "d2m_model"])
def test_a_folder_is_a_chapter_that_is_seen_at_a_glance(package: str) -> None:
    folders = {path.parent for path in modules(package)}
    assert {f: n for f in folders if (n := len(list(f.glob("*.py")))) > 20} == {}


def imported_modules() -> dict[str, set[str]]:
    """Each module of both packages, and those of them that it imports: anywhere in it, type checking included.

    `from package import module` is an import of the module; what else a package's own file holds is one of the package.
    """
    paths = {dotted(path): path for package in ("tiktok_dm", "d2m_model") for path in modules(package)}
    graph: dict[str, set[str]] = {}
    for name, path in paths.items():
        found = graph[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                whole = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= whole if whole <= paths.keys() else (whole & paths.keys()) | {node.module}
        graph[name] = (found & paths.keys()) - {name}
    return graph


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_no_modules_import_each_other_in_a_circle() -> None:
    left = imported_modules()
    while True:
        free = [name for name, others in left.items() if not others & left.keys()]
        if not free:
            break
        for name in free:
            del left[name]
    assert sorted(left) == []


def test_the_runtime_knows_nothing_of_dance() -> None:
    for path in modules("tiktok_dm/runtime"):
        ours = {part(name) for name in imports(path) if name.startswith("tiktok_dm.")}
        assert ours <= {"runtime", "errors", "files", "machine"}, path


def test_the_checks_of_a_dataset_know_nothing_of_importers() -> None:
    for path in modules("tiktok_dm/dataset"):
        assert "importers" not in {part(name) for name in imports(path) if name.startswith("tiktok_dm.")}


# Chapters of the model, from the top down.
MODEL_LAYERS = [
    {"cli", "__main__"},
    {"parity", "parity_pack"},
    {"sampling"},
    {"training"},
    {"checkpoint", "acceleration"},
    {"networks"},
    {"model_folder"},
    {"codec"},
    {"config", "configs", "motion", "__init__"},
]


def test_the_models_imports_run_downwards() -> None:
    def place(name: str) -> int:
        return next(i for i, layer in enumerate(MODEL_LAYERS) if name in layer)

    allowed = {("codec", "training")}  # the codec's training shares the model's settings and its mel spectrogram
    for module, others in imported_modules().items():
        if module.startswith("d2m_model."):
            for other in (other for other in others if other.startswith("d2m_model.")):
                here, there = part(module), part(other)
                assert place(there) >= place(here) or (here, there) in allowed, (module, other)


def test_the_model_imports_only_what_it_may() -> None:
    for path in modules("d2m_model"):
        for name in imports(path):
            if name.startswith("tiktok_dm."):
                assert part(name) in {"schema", "errors", "files", "machine", "media", "pose", "reading", "runtime"}, (
                    path,
                    name,
                )


def test_asking_for_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from tiktok_dm.cli import main as cli\n"
        "try: cli.app(['--help'])\nexcept SystemExit: pass\n"
        "heavy = [m for m in ('torch', 'pandas', 'librosa', 'datasets', 'yt_dlp', 'av') if m in sys.modules]\n"
        "print(heavy, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr.strip() == "[]"
    for verb in ("build", "verify", "stats", "remove", "split", "annotations"):
        assert verb in done.stdout


@pytest.mark.slow
def test_the_models_benchmark_needs_pytorch_and_numpy_alone() -> None:
    """A machine with a GPU may have nothing else, and no network."""
    code = (
        "import sys; sys.path.insert(0, 'benchmarks'); import torch, torch.utils.flop_counter\n"
        "for name in ('av', 'huggingface_hub', 'librosa', 'lightning_fabric', 'pandas', 'safetensors', 'scipy',\n"
        "             'soundfile', 'typer', 'yaml', 'datasets', 'mediapipe'): sys.modules[name] = None\n"
        "import model; model.stand_in_for_librosa()\n"
        "setting = model.Setting('released', 'high', 1, 1 / 32)\n"
        "print(sorted(setting.step(setting.batch)), setting.plain_step().keys() >= {'mel'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "'mel'" in done.stdout
    assert done.stdout.endswith("True\n")

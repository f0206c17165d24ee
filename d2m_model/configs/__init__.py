"""The shipped configurations, found by name, and the one reader of configuration files.

Each is a flat YAML file in this folder in which every line is explained. `codec/` holds those of `d2m codec train`; an
ablation names the configuration that it changes as its `base`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tiktok_dm.errors import UserError
from tiktok_dm.schema import nearest_name

FOLDER = Path(__file__).parent
CODEC = "codec"


def names(kind: str = "") -> list[str]:
    """Names of the shipped configurations: of the model's training, or, with kind `codec`, of a codec's."""
    root = FOLDER / kind if kind else FOLDER
    found = [path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml")]
    return sorted(name for name in found if kind or not name.startswith(f"{CODEC}/"))


def title(name: str) -> str:
    """The first sentence of a shipped configuration's opening comment, without what stands in brackets."""
    head = []
    for line in (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        # Indented lines of the comment are commands.
        if not line.startswith("# ") or line.startswith("#  "):
            break
        head.append(line[2:].strip())
    sentence = re.sub(r" \([^)]*\)", "", " ".join(head)).partition(". ")[0]
    return sentence.rstrip(".:")


def find(name: str | Path, kind: str = "") -> Path:
    """The file of a configuration: a path, or the name of a shipped one.

    A file of that path goes first. `configs/demo.yaml`, as the name is written in a checkout's older texts, is `demo`.

    Args:
        name: such as `demo`, `ablations/no_audio`, `my_own.yaml`.
        kind: `codec` for a codec's training, else empty.

    Raises:
        UserError: neither; the nearest name is offered.
    """
    path = Path(name)
    if path.is_file():
        return path
    parts = path.with_suffix("").parts if path.suffix in (".yaml", ".yml") else path.parts
    for prefix in ("d2m_model", "configs", kind):
        if prefix and parts[:1] == (prefix,):
            parts = parts[1:]
    shipped = names(kind)
    wanted = "/".join(parts)
    if wanted in shipped:
        return FOLDER / kind / f"{wanted}.yaml"
    near = nearest_name(wanted, shipped)
    hint = f"did you mean '{near}'?" if near else "'d2m configs' lists those that are shipped."
    raise UserError(f"There is no configuration '{name}', neither a file nor a shipped one: {hint}")


def read_yaml(path: Path) -> dict[str, Any]:
    """The values of a YAML file; a key `base` names another one, whose values it replaces one by one.

    The base is a path from the file's folder, or the name of a shipped configuration.

    Raises:
        UserError: a file that cannot be read or holds no keys, or a base that leads back to itself.
    """
    return _read(path, ())


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    import yaml

    if path.resolve() in above:
        raise UserError(f"The configuration {path} is its own base; take the key out.")
    try:
        values: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"The configuration {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"The configuration {path} is not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(values, dict):
        raise UserError(f"The configuration {path} holds no keys; 'd2m configs demo' shows what one looks like.")
    base = values.pop("base", None)
    if base is None:
        return values
    beside = path.parent / str(base)
    merged = _read(beside if beside.is_file() else find(str(base)), (*above, path.resolve()))
    for key, value in values.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = {**merged[key], **value} if both else value
    return merged

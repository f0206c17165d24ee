"""The dataset's card: `README.md`, YAML that `datasets` and the hub read, and prose made from the data.

Not for the page with pictures: that is `report`.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiktok_dm.reading import features
from tiktok_dm.schema import DATASET_COLUMNS, SPLITS

if TYPE_CHECKING:
    from tiktok_dm.dataset.rows import ClipItem, DatasetMeta, SplitInfo

STATUSES = ("ok", "filtered", "failed", "gone", "open")
TEMPLATES = Path(__file__).parent / "templates"
VISUAL_TEMPLATE = "card_visual.md.j2"  # of datasets with visual features alone

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_SHAPES = {"video": "Video", "audio": "Audio"}
# Characters that would end a table cell, start markup or an HTML tag in Markdown.
_MARKDOWN = str.maketrans({character: "\\" + character for character in "\\`*_[]<>|#~$"} | {"\n": " ", "\r": " "})


def card(items: Sequence[ClipItem], meta: DatasetMeta, splits: Sequence[SplitInfo]) -> str:
    """The text of `README.md`.

    Args:
        splits: what was written; a configuration or split without rows is absent from it and from the card.
    """
    by_config = _by_config(splits)
    text = (
        environment()
        .get_template("card.md.j2")
        .render(
            meta=meta,
            splits=by_config,
            counts=[_split_counts(items, split) for split in SPLITS if any(item.split == split for item in items)],
            total=_split_counts(items, None),
            columns={
                config: [
                    (name, _SHAPES.get(kind, kind), meaning)
                    for name, (kind, meaning) in (infos[0].columns or DATASET_COLUMNS[config]).items()
                ]
                for config, infos in by_config.items()
            },
            first_split=by_config["clips"][0].split if by_config else "train",
            sources=_sources(items, meta),
            pose_models=sorted({(item.pose_model, str(item.poses.get("weights_sha256") or "")) for item in items}),
            dancers=sorted(Counter(int(item.poses["n_dancers"]) for item in items).items()),
            tempo=_range([item.music["tempo_bpm"] for item in items]),
            coverage=statistics.fmean(item.poses["coverage"] for item in items) if items else 0.0,
            annotated=any(item.n_dancers_annotated is not None for item in items),
            outcome=outcome(items, meta),
            missing=missing_table(meta),
            accuracy=accuracy_table(meta),
        )
    )
    return front_matter(items, meta, splits) + text + _visual_section(items)


def _visual_section(items: Sequence[ClipItem]) -> str:
    """What the card says of visual features; nothing where there are none."""
    found = [item.visual for item in items if item.visual is not None]
    if not found:
        return ""
    models = sorted({(f"{v['extractor']} {v['extractor_version']}", v["method"], v["n_features"]) for v in found})
    files = sorted({(name, sha256) for v in found for name, sha256 in v["weights"].items()})
    return environment().get_template(VISUAL_TEMPLATE).render(models=models, files=files)


def front_matter(items: Sequence[object], meta: DatasetMeta, splits: Sequence[SplitInfo]) -> str:
    """The card's YAML head between its `---` lines: what `datasets` and the hub read."""
    return f"---\n{_yaml(_front_matter(items, meta, _by_config(splits)))}---\n"


def _by_config(splits: Sequence[SplitInfo]) -> dict[str, list[SplitInfo]]:
    """What was written, by configuration and in order of the splits; without configurations that have no rows."""
    by_config = {
        config: [info for split in SPLITS for info in splits if (info.config, info.split) == (config, split)]
        for config in DATASET_COLUMNS
    }
    return {config: infos for config, infos in by_config.items() if infos}


def environment() -> Any:
    """Templates of this folder; `md` and `link` escape text for Markdown, HTML templates escape by themselves."""
    import jinja2

    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html", "html.j2"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters["link"] = lambda text: "".join(c for c in str(text) if c not in "<>" and not c.isspace())
    templates.filters["md"] = lambda text: str(text).translate(_MARKDOWN)
    return templates


def outcome(items: Sequence[ClipItem], meta: DatasetMeta) -> dict[str, int]:
    """Planned clips by what became of them: ok, filtered, failed, gone, and open (the ledger says nothing of them).

    A clip without an entry of its own shares the fate of its compilation.
    """
    found = Counter(clip_status(meta).values())
    counts = {"ok": len(items)} | {status: found.get(status, 0) for status in ("filtered", "failed", "gone")}
    return counts | {"open": max(0, meta.plan_clips - sum(counts.values()))}


def clip_status(meta: DatasetMeta) -> dict[int, str]:
    """The ledger's status of each clip that it, or its compilation's entry, speaks of."""
    entries = {str(entry["item"]): str(entry["status"]) for entry in meta.ledger}
    status = {
        int(clip["clip_id"]): entries[f"compilation:{clip['compilation_id']}"]
        for clip in meta.planned
        if entries.get(f"compilation:{clip['compilation_id']}", "ok") != "ok"
    }
    return status | {int(item.partition(":")[2]): word for item, word in entries.items() if item.startswith("clip:")}


def missing_table(meta: DatasetMeta) -> list[dict[str, Any]]:
    """What the ledger says of everything that is not in the dataset, by status, stage and reason."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for entry in meta.ledger:
        if entry["status"] != "ok":
            groups.setdefault((str(entry["status"]), str(entry["stage"]), str(entry["reason"])), []).append(entry)
    rows = []
    for (status, stage, reason), entries in sorted(
        groups.items(), key=lambda group: (STATUSES.index(group[0][0]), group[0])
    ):
        raw: dict[str, list[str]] = {}
        for entry in entries:
            if entry["message"] and str(entry["message"]) != reason:
                message = f"{entry['error']}: {entry['message']}" if entry["error"] else str(entry["message"])
                raw.setdefault(message, []).append(entry["item"])
        rows.append(
            {
                "status": status,
                "stage": stage,
                "reason": reason or "no reason given",
                "items": listed(entry["item"] for entry in entries),
                "raw": [(message, listed(of)) for message, of in raw.items()],
            }
        )
    return rows


def accuracy_table(meta: DatasetMeta) -> list[tuple[str, str, str]]:
    """Value, name and explanation of the pose accuracy against rendered truth."""
    measured = meta.pose_accuracy or {}
    known = {
        "recall": ("recall", "share of the rendered people that were found, over all frames", 3),
        "mean_error_torso": ("mean joint error", "in torso lengths, joints that are visible in the picture", 3),
        "pck02": ("PCK@0.2", "share of joints within 0.2 torso lengths of the truth", 3),
    }
    rows = [
        (f"{float(measured[key]):.{digits}f}", name, text)
        for key, (name, text, digits) in known.items()
        if key in measured
    ]
    return rows + [
        (f"{value:g}" if isinstance(value, float) else str(value), key.replace("_", " "), "")
        for key, value in sorted(measured.items())
        if key not in known and isinstance(value, int | float)
    ]


def listed(items: Iterable[str]) -> str:
    """`compilation 2, clips 4, 7-9` of `compilation:2`, `clip:4`, `clip:7`, `clip:8`, `clip:9`."""
    by_kind: dict[str, list[int]] = {}
    for item in items:
        kind, _, number = str(item).partition(":")
        by_kind.setdefault(kind, []).append(int(number))
    words = []
    for kind, numbers in by_kind.items():
        runs: list[list[int]] = []
        for n in sorted(numbers):
            if runs and n == runs[-1][1] + 1:
                runs[-1][1] = n
            else:
                runs.append([n, n])
        parts = [part for a, b in runs for part in ([f"{a}-{b}"] if b > a + 1 else map(str, range(a, b + 1)))]
        words.append(f"{kind}{'s' if len(numbers) > 1 else ''} {', '.join(parts)}")
    return ", ".join(words)


def _front_matter(
    items: Sequence[object], meta: DatasetMeta, by_config: Mapping[str, Sequence[SplitInfo]]
) -> dict[str, Any]:
    head: dict[str, Any] = {}
    if meta.license:
        head["license"] = meta.license
    head |= {
        "pretty_name": meta.title or meta.name,
        "task_categories": ["text-to-audio", "other"],
        "tags": ["dance", "music", "music-generation", "pose-estimation", "video", "audio", "tiktok-dm"],
        "size_categories": [next((name for limit, name in _SIZES if len(items) < limit), "1M<n<10M")],
        "configs": [
            {"config_name": config}
            | ({"default": True} if config == "clips" else {})
            | {"data_files": [{"split": info.split, "path": f"data/{config}/{info.split}-*.parquet"} for info in infos]}
            for config, infos in by_config.items()
        ],
        "dataset_info": [
            {
                "config_name": config,
                "description": _description(meta, infos),
                **{name: text for name in ("license", "citation", "homepage") if (text := getattr(meta, name))},
                "features": features(config, infos[0].columns)._to_yaml_list(),
                "splits": [
                    {"name": info.split, "num_bytes": info.num_bytes, "num_examples": info.num_examples}
                    for info in infos
                ],
                "download_size": sum(info.download_bytes for info in infos),
                "dataset_size": sum(info.num_bytes for info in infos),
            }
            for config, infos in by_config.items()
        ],
    }
    return head


def _description(meta: DatasetMeta, infos: Sequence[SplitInfo]) -> str:
    """What `load_dataset(...).info` says: what it is, and which content.

    `datasets` caches what it opened under the card alone: without the content, a dataset whose rows changed and whose
    sizes did not would be served from the old copy.
    """
    said = meta.description or f"{meta.title or meta.name}: dance clips with their sound, poses, tempo and beats."
    return f"{said.strip()} (content {'-'.join(info.sha256[:16] for info in infos)})"


def _yaml(value: Any) -> str:
    import yaml

    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1000)


def _split_counts(items: Iterable[ClipItem], split: str | None) -> dict[str, Any]:
    chosen = [item for item in items if split is None or item.split == split]
    return {
        "name": split or "all",
        "clips": len(chosen),
        "segments": sum(item.n_segments for item in chosen),
        "songs": len({item.song_id for item in chosen}),
        "compilations": len({item.compilation_id for item in chosen}),
        "minutes": sum(float(item.segment["duration_s"]) for item in chosen) / 60,
        "mean_s": statistics.fmean(float(item.segment["duration_s"]) for item in chosen) if chosen else 0.0,
    }


def _sources(items: Sequence[ClipItem], meta: DatasetMeta) -> list[dict[str, Any]]:
    sources = dict(meta.sources) | {item.compilation_id: item.source for item in items}
    clips = Counter(item.compilation_id for item in items)
    return [{"id": key, "source": sources[key], "clips": clips[key]} for key in sorted(sources)]


def _range(values: Iterable[float | None]) -> tuple[float, float] | None:
    known = [value for value in values if value]
    return (min(known), max(known)) if known else None

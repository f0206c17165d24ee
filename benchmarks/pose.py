"""Speed of the pose estimators: people per second, on the CPU and, where there is one, on the GPU.

Weights are random (speed does not depend on them), pictures are rendered dancers of the embedded demo. In one run, for
each estimator and device:

- people per second from decoded pictures and known boxes to joints;
- for `mmpose`, the same through mmpose's own `inference_topdown`, one call a person, and the ratio of the two;
- the same over the bare pass of the network on crops that are ready: what crops and decoding cost;
- on a GPU, from video files to tracked dancers, with RT-DETR, decoding ahead and batches across clips: people per
  second, and the share of the time in which the GPU computes.

On a CPU processor seconds of one thread are counted, so that neighbours on the machine do not.

    python benchmarks/pose.py [--device cpu|cuda] [--model t] [--json FILE] [--readme docs/build.md]

Needs `python -m tiktok_dm.pose.install_mmpose`. `--readme` puts the table between the lines `<!-- pose speed -->` and
`<!-- end -->`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

DANCERS = 3


def machine(device: torch.device) -> str:
    """What a reader has to know to compare."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {os.cpu_count()} cores"
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model n")]
        name = names[0] if names else name
    return f"{name}, one thread"


def seconds(device: torch.device, run: Callable[[], object]) -> float:
    """Processor seconds of one call on a CPU, wall seconds on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        begun = time.perf_counter()
        run()
        torch.cuda.synchronize(device)
        return time.perf_counter() - begun
    begun = time.process_time()
    run()
    return time.process_time() - begun


def compare(device: torch.device, repeat: int, *runs: Callable[[], object]) -> list[float]:
    """Least seconds of each, taken in turns after one unmeasured call of each."""
    for run in runs:
        run()
    taken = [[seconds(device, run) for run in runs] for _ in range(repeat)]
    return [min(one) for one in zip(*taken, strict=True)]


def write_models(folder: Path, sizes: Sequence[str]) -> None:
    """Checkpoints of full size with random weights, as the published ones are written."""
    from transformers import (
        RTDetrResNetConfig,
        RTDetrV2Config,
        RTDetrV2ForObjectDetection,
        VitPoseBackboneConfig,
        VitPoseConfig,
        VitPoseForPoseEstimation,
    )

    from tiktok_dm.pose.mmpose import build, configuration

    torch.manual_seed(0)
    for size in sizes:
        torch.save({"state_dict": build(configuration(size)).state_dict()}, folder / f"rtmpose-{size}.pth")
    backbone = RTDetrResNetConfig(
        hidden_sizes=[64, 128, 256, 512],
        depths=[2, 2, 2, 2],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    # As PekingU/rtdetr_v2_r18vd.
    detector = RTDetrV2Config(
        backbone_config=backbone, encoder_in_channels=[128, 256, 512], decoder_layers=3, hidden_expansion=0.5
    )
    RTDetrV2ForObjectDetection(detector).save_pretrained(folder / "detector")
    # As usyd-community/vitpose-base-simple.
    layers = VitPoseBackboneConfig(out_indices=[12], out_features=["stage12"])
    VitPoseForPoseEstimation(VitPoseConfig(backbone_config=layers, num_labels=17)).save_pretrained(folder / "vitpose")


def dancers(count: int) -> tuple[list[np.ndarray], list[tuple[int, Any]]]:
    """Pictures of rendered dancers and where each of them is."""
    from tiktok_dm.pose.topdown import square_enough
    from tiktok_dm.synthetic.performance import joints_px, pictures
    from tiktok_dm.synthetic.plan import DemoParams, make_plan

    params = DemoParams(groove="exact")
    clip = next(c for film in make_plan(params) for c in film.clips if len(c.dancers) == DANCERS)
    frames = [picture.copy() for picture, _ in zip(pictures(params, clip), range(count), strict=False)]
    joints = joints_px(params, clip, np.arange(len(frames)) / params.fps)
    regions = []
    for n in range(len(frames)):
        for dancer in range(DANCERS):
            low, high = joints[n, dancer].min(axis=0), joints[n, dancer].max(axis=0)
            regions.append((n, square_enough(np.concatenate([low - 8, high + 8]), 0.75)))
    return frames, regions


def loop_of(folder: Path, size: str, device: torch.device) -> Callable[[np.ndarray, np.ndarray], Any]:
    """mmpose's own way, one call a person, with the weights and the settings (no mirrored pass) that ours has."""
    from tiktok_dm.pose.mmpose import build, configuration, read_checkpoint, stand_ins

    with stand_ins("torchvision"):
        from mmpose.apis import inference_topdown
        from mmpose.apis.inference import dataset_meta_from_config

        config = configuration(size)
        model = build(config)
        model.dataset_meta = dataset_meta_from_config(config, "train")
    model.load_state_dict(read_checkpoint(folder / f"rtmpose-{size}.pth"))
    model.to(device).eval()
    model.cfg = config
    model.test_cfg["flip_test"] = False
    return lambda picture, box: inference_topdown(model, picture, box)


def measure(name: str, estimator: Any, people: int, repeat: int, loop: Any = None) -> dict[str, Any]:
    """One estimator on one device, from decoded pictures and known boxes."""
    from tiktok_dm.pose.crops import boxes_of, upload

    device = estimator.device
    frames, regions = dancers(max(1, people // DANCERS))
    boxes = boxes_of([region for _, region in regions])
    index = [n for n, _ in regions]
    with torch.inference_mode():
        pictures = upload(frames, device)
        ready = [
            estimator.prepare(pictures, index[k : k + estimator.crops], boxes[k : k + estimator.crops]).clone()
            for k in range(0, len(index), estimator.crops)
        ]

    def bare() -> None:
        with torch.inference_mode(), estimator._fast():
            for crops in ready:
                estimator.forward(crops)

    def whole() -> None:
        estimator._held = None  # the way to the device counts
        estimator.estimate(frames, regions)

    runs = [bare, whole]
    if loop is not None:
        few = range(min(len(regions), 24))
        bgr = [np.ascontiguousarray(frame[..., ::-1]) for frame in frames]
        runs.append(lambda: [loop(bgr[index[k]], boxes[k : k + 1]) for k in few])
    taken = compare(device, repeat, *runs)
    result = {
        "estimator": name,
        "device": device.type,
        "precision": "fp16" if estimator.half else "fp32",
        "people_per_s": round(len(regions) / taken[1], 2),
        "whole_over_bare_forward": round(taken[1] / taken[0], 3),
    }
    if loop is not None:
        result["loop_people_per_s"] = round(len(few) / taken[2], 2)
        result["times_the_loop"] = round(result["people_per_s"] / result["loop_people_per_s"], 2)
    return result


class _Fixed:
    """The real detector's cost, and people where the rendered dancers are: random weights would find no one."""

    def __init__(self, detector: Any, regions: Sequence[tuple[int, Any]]) -> None:
        from tiktok_dm.pose.crops import boxes_of

        self.detector = detector
        self.version, self.weights_sha256 = detector.version, detector.weights_sha256
        self.boxes = boxes_of([region for n, region in regions if n == 0])

    def detect(self, pictures: Any, least: float) -> list[Any]:
        return [(self.boxes, np.full(len(self.boxes), 0.9, np.float32)) for _ in self.detector.detect(pictures, least)]


def from_files(estimator: Any, folder: Path, clips: int, seconds_each: float = 10.0) -> dict[str, Any]:
    """From video files to tracked dancers, and how busy the GPU is meanwhile."""
    from tiktok_dm import media
    from tiktok_dm.pose.video import Clip, estimate_clips

    frames, regions = dancers(60)
    estimator.detector = _Fixed(estimator.detector, regions)
    height, width = frames[0].shape[:2]
    count = round(30 * seconds_each)
    file = folder / "clip.mp4"
    media.write_video(file, (frames[k % len(frames)] for k in range(count)), 30)

    def run(number: int) -> int:
        some = [Clip(k, lambda: media.read_frames(file, fps=30), (0, 0, width, height)) for k in range(number)]
        done = 0
        for _, poses in estimate_clips(some, estimator, open_clips=min(12, os.cpu_count() or 4)):
            if isinstance(poses, Exception):
                raise poses
            done += len(poses)
        return done

    run(2)
    begun = time.perf_counter()
    done = run(clips)
    wall = time.perf_counter() - begun
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        begun = time.perf_counter()
        run(max(2, clips // 4))
        profiled = time.perf_counter() - begun
    # One stream: kernels do not overlap, and their sum is the time in which the device computes.
    busy = sum(event.self_device_time_total for event in profile.key_averages()) / 1e6
    return {
        "files_pictures_per_s": round(done / wall, 1),
        "files_people_per_s": round(done * DANCERS / wall, 1),
        "gpu_busy": round(busy / profiled, 3),
    }


def mediapipe(repeat: int) -> dict[str, Any]:
    """The default estimator, for comparison: people per second of its landmark model with its crops."""
    from tiktok_dm.pose.registry import get_estimator

    estimator = get_estimator("mediapipe")
    frames, _ = dancers(8)
    regions = [(n, found.region) for n, of_frame in enumerate(estimator.detect(frames)) for found in of_frame]
    [taken] = compare(torch.device("cpu"), repeat, lambda: estimator.estimate(frames, regions))
    speed = round(len(regions) / taken, 2)
    return {"estimator": "mediapipe", "device": "cpu", "precision": "fp32", "people_per_s": speed}


def table(results: Sequence[dict[str, Any]]) -> str:
    """The figures as a table for the docs."""
    lines = [
        "| estimator | machine | precision | people / s | times mmpose's loop | whole / bare forward | GPU busy |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in results:
        cells = [r.get("times_the_loop"), r.get("whole_over_bare_forward"), r.get("gpu_busy")]
        shown = " | ".join("" if cell is None else f"{cell:.2f}" for cell in cells)
        speed = f"{r['people_per_s']:,.0f}" if r["people_per_s"] >= 100 else f"{r['people_per_s']:.1f}"
        lines.append(f"| {r['estimator']} | {r['machine']} | {r['precision']} | {speed} | {shown} |")
    return "\n".join(lines)


def put_into(readme: Path, text: str) -> None:
    """Replace what stands between the two marks."""
    before, start, rest = readme.read_text(encoding="utf-8").partition("<!-- pose speed -->\n")
    _, end, after = rest.partition("<!-- end -->")
    if not start or not end:
        raise SystemExit(f"{readme} has no lines <!-- pose speed --> and <!-- end -->: nothing was written")
    readme.write_text(f"{before}{start}{text}\n{end}{after}", encoding="utf-8")


def main() -> None:
    """Measure everything that this machine can, print it, and write it where told."""
    from tiktok_dm.pose.base import Options
    from tiktok_dm.pose.mmpose import RTMPose
    from tiktok_dm.pose.vitpose import ViTPose

    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--device", action="append", choices=["cpu", "cuda"], help="only this one; repeatable")
    parser.add_argument("--model", action="append", help="RTMPose's sizes; t on a CPU, t and m on a GPU by default")
    parser.add_argument("--repeat", type=int, default=3, help="the least of so many turns counts")
    parser.add_argument("--no-vitpose", action="store_true", help="leave ViTPose out")
    parser.add_argument("--clips", type=int, default=48, help="video files of 10 s, on a GPU")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--readme", type=Path, help="also put the table into this file, between its marks")
    options = parser.parse_args()
    devices = options.device or (["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = {device: options.model or (["t"] if device == "cpu" else ["t", "m"]) for device in devices}
        write_models(folder, sorted({size for chosen in sizes.values() for size in chosen}))
        detector = str(folder / "detector")
        for device in map(torch.device, devices):
            threads = torch.get_num_threads()
            if device.type == "cpu":
                torch.set_num_threads(1)
                results.append(mediapipe(options.repeat) | {"machine": machine(device)})
                print(json.dumps(results[-1]), flush=True)
            makers: list[tuple[str, Callable[[], Any], Any]] = []
            for size in sizes[device.type]:
                chosen = Options(
                    model=size, weights=str(folder / f"rtmpose-{size}.pth"), detector=detector, device=device.type
                )
                loop = loop_of(folder, size, device)
                makers.append((f"mmpose (RTMPose-{size})", lambda chosen=chosen: RTMPose(chosen), loop))
            if not options.no_vitpose:
                chosen = Options(model=str(folder / "vitpose"), detector=detector, device=device.type)
                makers.append(("vitpose (ViTPose-B)", lambda chosen=chosen: ViTPose(chosen), None))
            for label, make, loop in makers:
                estimator = make()
                people = 1536 if device.type == "cuda" else 6 if label.startswith("vitpose") else 24
                result = measure(label, estimator, people, options.repeat, loop)
                if device.type == "cuda":
                    result |= from_files(estimator, folder, options.clips)
                results.append(result | {"machine": machine(device)})
                print(json.dumps(results[-1]), flush=True)
            torch.set_num_threads(threads)
    print(table(results))
    if options.json:
        content = {"torch": torch.__version__, "results": results}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if options.readme:
        put_into(options.readme, table(results))


if __name__ == "__main__":
    main()

"""Takes a plan through the stages: what can run now runs, one item's failure never stops the others.

Not for deciding what is in the plan (`plan`), how a stage works (the stages), or where it runs (`executor`).
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tiktok_dm.errors import DiskFull, Gone, MediaError, is_no_room
from tiktok_dm.pipeline import stages
from tiktok_dm.pipeline.acquire import VERSION as ACQUIRE_VERSION
from tiktok_dm.pipeline.acquire import AcquireParams, StopAsking, acquire_local, acquire_url
from tiktok_dm.pipeline.plan import Plan, PlannedClip, PlannedSource
from tiktok_dm.runtime.executor import Executor
from tiktok_dm.runtime.progress import BuildProgress
from tiktok_dm.runtime.store import Entry, Ledger, Store, content_key, entry_for
from tiktok_dm.visual.base import VisualSource

# A task's place in the queue. Cuts first, since everything waits for them; then poses, the long ones first, and visual
# features where the poses' tasks did not bring them along; then music, whose tasks are short and fill the workers' last
# gaps.
_RANK = {"acquire": 0, "segment": 1, "poses": 2, "visual": 3, "music": 4}


@dataclass
class ClipState:
    """What is known of one clip while it passes the stages."""

    clip: PlannedClip
    stages: tuple[str, ...] = ("segment", "poses", "music")
    keys: dict[str, str] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every stage has its record."""
        return set(self.stages) <= set(self.records)


@dataclass
class Outcome:
    """Everything a finished pass knows: sources found, clips with their records, and the last word on each item."""

    sources: dict[int, dict[str, Any]]
    clips: dict[int, ClipState]
    ledger: Ledger


@dataclass(frozen=True, order=True)
class _Waiting:
    """A task in the queue, in the order in which tasks start."""

    rank: int
    minus_cost: float
    number: int
    stage: str = field(compare=False)
    key: str = field(compare=False)
    run: Callable[..., Any] = field(compare=False)
    args: tuple[Any, ...] = field(compare=False)
    done: Callable[[Future[Any]], None] = field(compare=False)
    together: bool = field(compare=False)


class Scheduler:
    """One pass of a plan through the stages.

    Args:
        restore: `restore(video_sha256, audio_sha256, folder) -> bool` brings back a cut whose files were cleaned away.
        retry_gone: ask again for sources that were found gone by an earlier build.
        on_change: called with the ledger after each item, so that a reader can follow.
        visual_source: weights and device of the visual features, where the plan asks for them.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        executor: Executor,
        progress: BuildProgress,
        acquire_params: AcquireParams,
        *,
        restore: Callable[[str, str | None, Path], bool] = lambda video, audio, folder: False,
        retry_gone: bool = False,
        on_change: Callable[[Ledger], None] = lambda ledger: None,
        visual_source: VisualSource | None = None,
    ) -> None:
        self.plan, self.store, self.executor, self.progress = plan, store, executor, progress
        self.acquire_params = acquire_params
        self.restore, self.retry_gone, self.on_change = restore, retry_gone, on_change
        self.ledger = Ledger()
        self.sources: dict[int, dict[str, Any]] = {}
        self.paths: dict[int, Path] = {}
        self.visual_source = visual_source or VisualSource()
        self.after_cut = ("poses", "music") if plan.parameters.visual is None else ("poses", "visual", "music")
        self.states = {clip.clip_id: ClipState(clip, ("segment", *self.after_cut)) for clip in plan.buildable}
        self._queue: list[_Waiting] = []
        self._together = stages.clips_together(plan.parameters)
        self._running: dict[Future[Any], Callable[[Future[Any]], None]] = {}
        self._in_pool: set[Future[Any]] = set()
        self._expected = dict.fromkeys(("segment", *self.after_cut), len(self.states))
        self._number = itertools.count()
        self._resting_hosts: dict[str, str] = {}

    def run(self) -> Outcome:
        """Run until nothing is left to do.

        Raises:
            DiskFull: nothing more can be written; finished outputs are kept.
        """
        by_source: dict[int, list[ClipState]] = {}
        for state in self.states.values():
            by_source.setdefault(state.clip.compilation_id, []).append(state)
        for clip in self.plan.clips:
            if clip.excluded:
                self.ledger.set(Entry(clip.item, "plan", "filtered", clip.excluded))
        wanted = [source for source in self.plan.sources if source.compilation_id in by_source]
        for source in self.plan.sources:
            if source.compilation_id not in by_source:
                self.ledger.set(Entry(source.item, "plan", "filtered", "none of its clips is to be built"))
        self.progress.expect("acquire", len(wanted))
        for stage, total in self._expected.items():
            self.progress.expect(stage, total)
        self._clips_of = by_source

        # Downloads wait for the network, not for a core, and one at a time is polite.
        with ThreadPoolExecutor(1, thread_name_prefix="download") as downloads:
            try:
                for source in wanted:
                    self._acquire(source, downloads)
                self._drain()
            except BaseException:
                downloads.shutdown(wait=False, cancel_futures=True)
                for future in self._running:
                    future.cancel()
                raise
        return Outcome(self.sources, self.states, self.ledger)

    # Each step below either finds its output in the store or puts a task into the queue.

    def _acquire(self, source: PlannedSource, downloads: ThreadPoolExecutor) -> None:
        def done(future: Future[Any]) -> None:
            self._acquired(source, future)

        if source.file is not None:
            stat = source.file.stat()
            identity = {"file": str(source.file.resolve()), "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
            key = content_key("acquire", ACQUIRE_VERSION, None, identity)
            self._push("acquire", key, 0, _acquire_local, (self.store.root, key, source.file), done)
        elif source.url:
            key = content_key(
                "acquire", ACQUIRE_VERSION, {"max_height": self.plan.parameters.max_height}, {"url": source.url}
            )
            future = downloads.submit(self._download, source.url, key)
            self._running[future] = done
        else:
            failed: Future[Any] = Future()
            failed.set_exception(
                MediaError(
                    f"compilation {source.compilation_id} has no link in the annotations and no file in the media "
                    "folder" + (f" (looked for {source.source})" if source.source else "") + ": add one of them"
                )
            )
            done(failed)

    def _download(self, url: str, key: str) -> dict[str, Any]:
        kept = self.store.record("acquire", key)
        if kept is not None and "gone" in kept:
            if not self.retry_gone:
                raise Gone(kept["gone"], kept["raw"])
            self.store.drop("acquire", key)
        host = urlsplit(url).hostname or ""
        if kept is None and host in self._resting_hosts:
            raise StopAsking(
                self._resting_hosts[host], f"{host} asked for a pause earlier in this run; not asked again"
            )
        try:
            record = self.store.run("acquire", key, lambda out: acquire_url(url, self.acquire_params, out))
        except Gone as verdict:
            self.store.put("acquire", key, {"gone": verdict.reason, "raw": verdict.raw})
            raise
        except StopAsking as pause:
            self._resting_hosts[host] = pause.reason
            raise
        return record | {"folder": str(self.store.folder("acquire", key))}

    def _acquired(self, source: PlannedSource, future: Future[Any]) -> None:
        error = self._error(future)
        record: dict[str, Any] = {} if error else dict(future.result())
        if error is None and source.sha256 and record["sha256"] != source.sha256:
            error = MediaError(
                f"{source.source} is not the file that was annotated: its SHA-256 is {record['sha256'][:12]}..., the "
                f"annotations say {source.sha256[:12]}...: bring the annotated file, or empty that cell"
            )
        if error is not None:
            entry = entry_for(source.item, "acquire", error)
            self._settle(entry, "acquire")
            for state in self._clips_of[source.compilation_id]:
                reason = f"its compilation {source.compilation_id} is {entry.status}: {entry.reason}"
                self.ledger.set(Entry(state.clip.item, "acquire", entry.status, reason, entry.error, entry.message))
                self._expect_fewer("segment", *self.after_cut)
            return
        folder = record.pop("folder", None)
        self.paths[source.compilation_id] = Path(folder) / record["file"] if folder else Path(str(source.file))
        self.sources[source.compilation_id] = record | {"source": source.source}
        self._settle(Entry(source.item, "acquire", "ok"), "acquire")
        for state in self._clips_of[source.compilation_id]:
            self._segment(state)

    def _segment(self, state: ClipState) -> None:
        clip = state.clip
        sha256 = self.sources[clip.compilation_id]["sha256"]
        key = state.keys["segment"] = stages.segment_key(clip, sha256, self.plan.parameters)
        record = self.store.record("segment", key)
        folder = self.store.folder("segment", key)
        cleaned = record is not None and stages.FILTERED not in record and not (folder / "clip.mp4").exists()
        if cleaned and record and not self.restore(record["video_sha256"], record["audio_sha256"], folder):
            self.store.drop("segment", key)
        args = (self.store.root, key, self.paths[clip.compilation_id], clip, self.plan.parameters)
        cost = (clip.end_s or 0) - (clip.start_s or 0)
        self._push("segment", key, cost, stages.run_segment, args, lambda future: self._segmented(state, future))

    def _segmented(self, state: ClipState, future: Future[Any]) -> None:
        if self._failed(state, "segment", future):
            return
        record = state.records["segment"] = future.result()
        folder = self.store.folder("segment", state.keys["segment"])
        parameters = self.plan.parameters
        cost = record["duration_s"] * (state.clip.n_dancers or 1)
        if record["has_audio"]:
            state.keys["music"] = stages.music_key(record, parameters)
        state.keys["poses"] = stages.poses_key(record, parameters)
        if "visual" in state.stages:
            state.keys["visual"] = stages.visual_key(record, parameters, self.visual_source)
        task = stages.PosesTask(state.keys["poses"], folder, record, state.keys.get("visual", ""), self.visual_source)
        done = partial(self._described, state, "poses")
        together = self._together > 1
        self._push("poses", task.key, cost, stages.run_poses, (self.store.root, task, parameters), done, together)
        args = (self.store.root, state.keys.get("music", ""), folder, record, parameters)
        self._push("music", args[1], cost, stages.run_music, args, partial(self._described, state, "music"))

    def _described(self, state: ClipState, stage: str, future: Future[Any]) -> None:
        if self._failed(state, stage, future):
            return
        state.records[stage] = future.result()
        entry = Entry(state.clip.item, "export", "ok") if state.complete else None
        self._settle(entry, stage, state.clip.item)
        if stage == "poses" and "visual" in state.stages:
            self._visual(state)

    def _visual(self, state: ClipState) -> None:
        """Once a clip has poses, which is when it belongs in the dataset; mostly their task made these features too."""
        record, key = state.records["segment"], state.keys["visual"]
        folder = self.store.folder("segment", state.keys["segment"])
        args = (self.store.root, key, folder, record, self.plan.parameters, self.visual_source)
        cost = record["duration_s"]
        self._push("visual", key, cost, stages.run_visual, args, partial(self._described, state, "visual"))

    def _failed(self, state: ClipState, stage: str, future: Future[Any]) -> bool:
        """Note a clip's error; of several the one of the earliest stage stays, however the tasks were timed."""
        error = self._error(future)
        if error is None:
            if stage == "segment":
                self._settle(None, stage, state.clip.item)
            return False
        entry = entry_for(state.clip.item, stage, error)
        before = self.ledger.get(state.clip.item)
        if before is not None and before.status != "ok" and _RANK[before.stage] <= _RANK[stage]:
            entry = before
        if stage == "segment":
            self._expect_fewer(*self.after_cut)
        elif stage == "poses" and "visual" in state.stages:
            self._expect_fewer("visual")
        self._settle(entry, stage)
        return True

    def _expect_fewer(self, *names: str) -> None:
        for stage in names:
            self._expected[stage] -= 1
            self.progress.expect(stage, self._expected[stage])

    def _error(self, future: Future[Any]) -> BaseException | None:
        """The exception of a task, if it ended with one; a full disk ends the whole pass."""
        error = future.exception()
        if error is not None and is_no_room(error):
            raise error if isinstance(error, DiskFull) else DiskFull(f"no room left on the disk: {error}")
        return error

    def _settle(self, entry: Entry | None, stage: str, item: str = "") -> None:
        note = ""
        if entry is not None:
            self.ledger.set(entry)
            note = f"{entry.status}: {entry.reason}" if entry.status != "ok" else ""
            item = entry.item
        self.progress.advance(stage, item, note)
        self.on_change(self.ledger)

    def _push(
        self,
        stage: str,
        key: str,
        cost: float,
        run: Callable[..., Any],
        args: tuple[Any, ...],
        done: Callable[[Future[Any]], None],
        together: bool = False,
    ) -> None:
        record = self.store.record(stage, key) if key else None
        if record is not None and stages.FILTERED not in record:
            ready: Future[Any] = Future()
            ready.set_result(record)
            done(ready)
            return
        # A verdict is there already: nothing is left to do in company.
        together = together and record is None
        heapq.heappush(
            self._queue, _Waiting(_RANK[stage], -cost, next(self._number), stage, key, run, args, done, together)
        )

    def _drain(self) -> None:
        while self._queue or self._running:
            # One task more than workers, so that none waits for the next; the rest stays in the queue, in order.
            while self._queue and len(self._in_pool) <= self.executor.workers:
                future, done = self._start()
                self._in_pool.add(future)
                self._running[future] = done
            finished, _ = wait(self._running, return_when=FIRST_COMPLETED)
            for future in finished:
                self._in_pool.discard(future)
                self._running.pop(future)(future)

    def _start(self) -> tuple[Future[Any], Callable[[Future[Any]], None]]:
        """Hand the next task to the executor, or several clips' poses as one task where that is better."""
        first = heapq.heappop(self._queue)
        company = [first]
        if first.together:
            waiting = 1 + sum(one.together for one in self._queue)
            most = min(self._together, -(-waiting // self.executor.workers))
            while len(company) < most and self._queue and self._queue[0].together:
                company.append(heapq.heappop(self._queue))
        if len(company) == 1:
            return self.executor.submit(first.run, *first.args), first.done
        tasks = [one.args[1] for one in company]
        future = self.executor.submit(stages.run_poses_together, self.store.root, tasks, self.plan.parameters)
        return future, partial(self._back_from_company, company)

    def _back_from_company(self, company: list[_Waiting], future: Future[Any]) -> None:
        """What was found is in the store; what was not is done alone, where it says what is wrong with it."""
        self._error(future)
        for one in company:
            self._push(one.stage, one.key, -one.minus_cost, one.run, one.args, one.done)


def _acquire_local(root: Path, key: str, file: Path) -> dict[str, Any]:
    """Probe and checksum of a local file, once for each size and time of change; runs in a worker."""
    return Store(root).run("acquire", key, lambda out: acquire_local(file))

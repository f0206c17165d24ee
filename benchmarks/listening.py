"""Load of the listening test's server: many raters at once through whole sessions, with kills of the server between.

    python benchmarks/listening.py --raters 200 --minutes 10 --kills 3

The server is a process of its own, and so are its figures: the time of a request is measured inside it, from the
application's first line to the last byte that it hands over, and its processor time stands beside the raters'. Raters
hear each clip for its whole length, click twice now and then, send again what was not answered (as the page does), and
some leave in mid-session. In the end every answer that the server acknowledged is looked up in its database.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from tiktok_dm.listening import study as studies
from tiktok_dm.listening.study import Clip, Condition, Key, Material, Study

ITEMS, CONDITIONS, CLIP_BYTES = 100, 5, 200_000


def make(folder: Path, raters: int, seconds: float) -> None:
    """A quality study of clips that are noise."""
    (folder / studies.STIMULI).mkdir(parents=True)

    def clip(name: str) -> Clip:
        (folder / studies.STIMULI / f"{name}.m4a").write_bytes(os.urandom(CLIP_BYTES))
        return Clip(file=f"{name}.m4a", seconds=seconds)

    study = Study(
        name=os.urandom(16).hex(),
        protocol=studies.PROTOCOLS["quality"],
        seed=0,
        n_items=ITEMS,
        n_conditions=CONDITIONS,
        items_a_rater=15,
        raters=raters,
        access="invited",
        headphone_trials=2,
        loudness_lufs=-23.0,
        longest_s=120 + 6 * seconds,
        consent=("You take part.",),
    )
    kinds = [("volume", 3), ("headphones", 2), ("practice", None), ("check", None)]
    key = Key(
        admin_token="token",
        conditions=tuple(Condition(name=f"c{k}", kind="system") for k in range(CONDITIONS)),
        items=tuple(f"i{k}" for k in range(ITEMS)),
        clips=tuple(tuple(clip(f"{i}-{c}") for c in range(CONDITIONS)) for i in range(ITEMS)),
        materials=tuple(Material(kind=k, clip=clip(k), expected=right) for k, right in kinds),  # type: ignore[arg-type]
    )
    studies.write(folder, study, key)
    studies.invite(folder, raters)


def serve(folder: Path, port: int, log: Path) -> None:
    """The server's process: the application, and a line in `log` for each request."""
    import uvicorn

    from tiktok_dm.listening.server import application
    from tiktok_dm.listening.store import Store

    store = Store(folder, *studies.read(folder), studies.digest(folder))
    inner = application(folder, store)
    with log.open("a", buffering=1) as lines:

        async def timed(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                await inner(scope, receive, send)
                return
            status = 0

            async def sent(message: Any) -> None:
                nonlocal status
                status = message.get("status", status)
                await send(message)

            begun = time.perf_counter()
            await inner(scope, receive, sent)
            lines.write(f"{scope['path'].split('/')[1:3]}\t{status}\t{time.perf_counter() - begun:.6f}\n")

        uvicorn.run(timed, host="127.0.0.1", port=port, log_level="error", access_log=False)


class Server:
    """The process that serves, and what it used."""

    def __init__(self, folder: Path, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.command = [sys.executable, __file__, "--serve", str(folder), str(self.port), str(log)]
        self.processor_s = 0.0
        self.memory: list[tuple[float, float]] = []
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command)

    def used_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def sample(self) -> None:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        self.memory.append((time.monotonic(), pages * os.sysconf("SC_PAGE_SIZE") / 2**20))

    def end(self, how: signal.Signals) -> None:
        self.processor_s += self.used_s()
        self.process.send_signal(how)
        self.process.wait()


async def rate(base: str, token: str, until: float, seconds: float, seen: dict[str, int], tally: Counter[str]) -> None:
    """A rater's session, from the link to the code, or until the time is over."""
    rng = random.Random(token)
    async with httpx.AsyncClient(base_url=base, timeout=60) as browser:

        async def ask(method: str, path: str, body: Any = None) -> httpx.Response:
            while True:
                try:
                    reply = await browser.request(method, path, json=body)
                except httpx.TransportError:
                    tally["sent again"] += 1
                    await asyncio.sleep(0.5)
                    continue
                if reply.status_code >= 500:
                    tally["server errors"] += 1
                return reply

        await ask("GET", f"/go-on/{token}")
        state = (await ask("POST", "/api/begin", {})).json()
        while state.get("stage") in ("trial", "wait") and time.monotonic() < until:
            if state["stage"] == "wait":
                await asyncio.sleep(3)
                state = (await ask("GET", "/api/state")).json()
                continue
            trial = state["trial"]
            await ask("GET", trial["clip"])
            await asyncio.sleep(seconds * rng.uniform(1.0, 1.2))
            if rng.random() < 0.005:
                await ask("POST", "/api/leave", {"trial": trial["id"]})
                tally["left"] += 1
                return
            body = {"trial": trial["id"], "answer": rng.randint(1, 3), "plays": 1, "original_plays": 0}
            clicks = 2 if rng.random() < 0.1 else 1
            replies = await asyncio.gather(*(ask("POST", "/api/answer", body) for _ in range(clicks)))
            if replies[0].status_code == 200:
                seen[trial["id"]] = body["answer"]
                state = replies[-1].json()
            else:
                tally[f"answers refused with {replies[0].status_code}"] += 1
                state = (await ask("GET", "/api/state")).json()
        tally["sessions finished"] += state.get("stage") == "done"


async def load(server: Server, tokens: list[str], args: argparse.Namespace, seen: dict[str, int]) -> Counter[str]:
    """All raters, the kills, and the samples of memory."""
    tally: Counter[str] = Counter()
    base, begun = f"http://127.0.0.1:{server.port}", time.monotonic()
    until = begun + args.minutes * 60
    queue = iter(tokens)

    async def seat(delay: float) -> None:
        await asyncio.sleep(delay)
        while time.monotonic() < until:
            await rate(base, next(queue), until, args.seconds, seen, tally)

    async def watch() -> None:
        kills = [begun + args.minutes * 60 * (k + 1) / (args.kills + 1) for k in range(args.kills)]
        while time.monotonic() < until:
            await asyncio.sleep(1)
            if kills and time.monotonic() > kills[0]:
                kills.pop(0)
                server.end(signal.SIGKILL)
                server.start()
                tally["kills"] += 1
            server.sample()

    await asyncio.gather(watch(), *(seat(args.seconds * k / args.raters) for k in range(args.raters)))
    return tally


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        serve(Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--raters", type=int, default=200, help="at once")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=5.0, help="of a clip")
    parser.add_argument("--kills", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder, log = Path(scratch) / "study", Path(scratch) / "requests.tsv"
        make(folder, args.raters * (2 + round(args.minutes * 60 / (20 * args.seconds)) * 2), args.seconds)
        seen: dict[str, int] = {}
        server = Server(folder, log)
        tally = asyncio.run(load(server, studies.invitations(folder), args, seen))
        last = [mb for at, mb in server.memory if at > server.memory[-1][0] - args.minutes * 60 / (args.kills + 1)]
        server.end(signal.SIGTERM)
        print(json.dumps(figures(folder, log, seen) | tally | _costs(server, last), indent=2))


def _costs(server: Server, last: list[float]) -> dict[str, Any]:
    third = max(1, len(last) // 3)
    return {
        "server's processor time, s": round(server.processor_s, 1),
        "raters' processor time, s": round(time.process_time(), 1),
        "memory after a third of the last life, MB": round(last[third], 1),
        "memory at its end, MB": round(last[-1], 1),
        "most memory, MB": round(max(mb for _, mb in server.memory), 1),
    }


def figures(folder: Path, log: Path, seen: dict[str, int]) -> dict[str, Any]:
    """Times of requests, and what became of the answers."""
    from tiktok_dm.listening.store import Store

    rows = [line.split("\t") for line in log.read_text().splitlines() if line.count("\t") == 2]
    times = np.array([float(row[2]) for row in rows]) * 1000
    store = Store(folder, *studies.read(folder), studies.digest(folder))
    _, trials = store.everything()
    votes = [n for row in store.votes() for n in row]
    store.close()
    stored = {row["trial"]: row["answer"] for row in trials if row["answered_at"] is not None}
    ratings = [row for row in trials if row["kind"] == "rating" and row["answered_at"] is not None]
    return {
        "requests": len(rows),
        "statuses": dict(Counter(row[1] for row in rows)),
        "server's time, median ms": round(float(np.median(times)), 1),
        "server's time, 95 % ms": round(float(np.percentile(times, 95)), 1),
        "server's time, most ms": round(float(times.max()), 1),
        "answers acknowledged": len(seen),
        "answers lost or changed": sum(stored.get(trial) != answer for trial, answer in seen.items()),
        "ratings": len(ratings),
        "ratings counted twice or not at all": abs(sum(votes) - len(ratings)),
        "items rated twice by one rater": len(ratings) - len({(row["rater"], row["item"]) for row in ratings}),
        "fewest and most ratings of a clip": [min(votes), max(votes)],
    }


if __name__ == "__main__":
    main()

"""The ledger: the last word on each item, in an order that no timing changes."""

from __future__ import annotations

from pathlib import Path

from tiktok_dm.errors import Filtered, Gone, MediaError
from tiktok_dm.runtime.store import Entry, Ledger, entry_for


def test_each_kind_of_error_has_its_status() -> None:
    assert entry_for("clip:1", "music", Filtered("the clip is silent")) == Entry(
        "clip:1", "music", "filtered", "the clip is silent", "Filtered", "the clip is silent"
    )
    assert entry_for("compilation:2", "acquire", Gone("private", "ERROR: Private video")) == Entry(
        "compilation:2", "acquire", "gone", "private", "Gone", "ERROR: Private video"
    )
    assert entry_for("clip:3", "segment", MediaError("clip 3 ends after its source")) == Entry(
        "clip:3", "segment", "failed", "clip 3 ends after its source", "MediaError", "clip 3 ends after its source"
    )
    assert entry_for("clip:4", "poses", ValueError("bad shape\nmore")) == Entry(
        "clip:4", "poses", "failed", "ValueError: bad shape", "ValueError", "bad shape\nmore"
    )


def test_order_and_round_trip(tmp_path: Path) -> None:
    one, other = Ledger(), Ledger()
    entries = [
        Entry("compilation:0", "acquire", "ok"),
        Entry("compilation:2", "acquire", "gone", "removed", "Gone", "été"),
        Entry("clip:2", "export", "ok"),
        Entry("clip:10", "music", "filtered", "silent"),
    ]
    for entry in entries:
        one.set(entry)
    for entry in reversed(entries):
        other.set(entry)
    assert one.entries == other.entries == entries
    one.write(tmp_path / "a")
    other.write(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert Ledger.read(tmp_path / "a").entries == entries
    assert one.counts("clip") == {"ok": 1, "filtered": 1}
    assert one.counts("compilation") == {"ok": 1, "gone": 1}
    assert Ledger.read(tmp_path / "none").entries == []


def test_the_last_word_counts() -> None:
    ledger = Ledger()
    ledger.set(Entry("clip:0", "segment", "failed", "x"))
    ledger.set(Entry("clip:0", "export", "ok"))
    assert ledger.get("clip:0") == Entry("clip:0", "export", "ok")
    assert ledger.get("clip:1") is None

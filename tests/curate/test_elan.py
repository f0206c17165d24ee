"""Annotations as ELAN documents, and corrected documents back."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pandas as pd
import pytest
from exchange_sets import in_memory, write_proposals_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from pympi import Eaf
from pympi.Elan import to_string

from tiktok_dm.curate.exchange.base import Film, TimedClip
from tiktok_dm.curate.exchange.corrections import apply_regions, export_annotations, import_regions
from tiktok_dm.curate.exchange.elan import eaf_text, read_elan
from tiktok_dm.curate.proposals import read_proposals
from tiktok_dm.errors import ProblemsError, UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_proposals_folder(tmp_path / "proposals")


@pytest.fixture
def out(folder: Path, tmp_path: Path) -> Path:
    export_annotations(folder, "elan", tmp_path / "out")
    return tmp_path / "out"


def first_file(out: Path) -> Path:
    return out / "compilation_000000.eaf"


def home(place: Path, folder: Path, out: Path, **options):
    return import_regions(lambda base: read_elan(place, base), folder, out, **options)


def edited(path: Path, *changes: tuple[str, str]) -> None:
    """Replace texts of a file, each of which is in it."""
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


# ------------------------------------------------------------------------------------------- out


def test_there_is_one_document_a_compilation(folder, tmp_path):
    done = export_annotations(folder, "elan", tmp_path / "out")
    assert [path.name for path in done.files] == ["compilation_000000.eaf", "compilation_000003.eaf"]
    assert done.notes == (
        "1 of 5 clips have no start or no end and were left out: 6",
        "compilation 3 has no file: ELAN will ask for its video",
    )


def test_pympi_reads_the_tiers_back(out):
    eaf = Eaf(str(first_file(out)))
    assert list(eaf.get_tier_names()) == ["clip", "song", "dancers", "review", "confidence", "reason"]
    assert sorted(eaf.get_annotation_data_for_tier("clip")) == [
        (0, 9500, "0"),
        (9500, 21250, "1"),  # 21.2504 s
        (30017, 38000, "2"),  # 30.0167 s
    ]
    # (start, end, value, value of the parent)
    assert sorted(eaf.get_ref_annotation_data_for_tier("song")) == [
        (0, 9500, "0 Vibe Ace", "0"),
        (9500, 21250, "7 Ça & là", "1"),
        (30017, 38000, "1", "2"),
    ]
    assert [value for _, _, value, _ in sorted(eaf.get_ref_annotation_data_for_tier("dancers"))] == ["1", "2"]
    assert [value for _, _, value, _ in sorted(eaf.get_ref_annotation_data_for_tier("review"))] == [
        "accepted",
        "open",
        "mended",
    ]
    assert [value for _, _, value, _ in sorted(eaf.get_ref_annotation_data_for_tier("confidence"))] == [
        "start 0.99 end 0.97 song 0.90 dancers 0.80",
        "start 0.97 end 0.60 song 0.75 dancers 0.90",
        "start 0.50 end 0.55",
    ]
    assert sorted(eaf.get_ref_annotation_data_for_tier("reason"))[1][2] == (
        "start: hard cut; end: cross-fade of 0.4 s; song: sounds alone"
    )
    (media,) = eaf.get_linked_files()
    assert media == {
        "MEDIA_URL": "./best%20of.mp4",
        "RELATIVE_MEDIA_URL": "./best%20of.mp4",
        "MIME_TYPE": "video/mp4",
    }


def test_the_document_is_what_the_schema_of_eaf_3_asks_for(out):
    root = ElementTree.parse(first_file(out)).getroot()
    assert first_file(out).read_bytes().startswith(b'<?xml version="1.0" encoding="UTF-8"?>\n<ANNOTATION_DOCUMENT ')
    schema = "{http://www.w3.org/2001/XMLSchema-instance}noNamespaceSchemaLocation"
    assert root.attrib == {
        "AUTHOR": "tiktok-dm",
        "DATE": "2000-01-01T00:00:00+00:00",
        "FORMAT": "3.0",
        "VERSION": "3.0",
        schema: "http://www.mpi.nl/tools/elan/EAFv3.0.xsd",
    }
    # The schema's sequence; a type and a constraint before their use would not be valid.
    names = list(dict.fromkeys(child.tag for child in root))
    assert names == ["HEADER", "TIME_ORDER", "TIER", "LINGUISTIC_TYPE", "CONSTRAINT"]
    header = root.find("HEADER")
    assert header is not None
    assert header.attrib == {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"}
    assert [child.tag for child in header] == ["MEDIA_DESCRIPTOR", "PROPERTY", "PROPERTY"]
    slots = {slot.get("TIME_SLOT_ID"): int(slot.get("TIME_VALUE")) for slot in root.iter("TIME_SLOT")}
    assert list(slots.values()) == sorted(slots.values())
    ids = [node.get("ANNOTATION_ID") for node in root.iter() if "ANNOTATION_ID" in node.attrib]
    assert len(ids) == len(set(ids)) == 16
    last = next(node.text for node in header if node.get("NAME") == "lastUsedAnnotationId")
    assert int(last) == max(int(name[1:]) for name in ids)
    for node in root.iter("ALIGNABLE_ANNOTATION"):
        assert slots[node.get("TIME_SLOT_REF1")] < slots[node.get("TIME_SLOT_REF2")]
    parents = {node.get("ANNOTATION_ID") for node in root.iter("ALIGNABLE_ANNOTATION")}
    assert {node.get("ANNOTATION_REF") for node in root.iter("REF_ANNOTATION")} <= parents
    types = {node.get("LINGUISTIC_TYPE_ID"): node.attrib for node in root.iter("LINGUISTIC_TYPE")}
    assert types["clip"]["TIME_ALIGNABLE"] == "true"
    assert "CONSTRAINTS" not in types["clip"]
    assert (types["value"]["TIME_ALIGNABLE"], types["value"]["CONSTRAINTS"]) == ("false", "Symbolic_Association")
    constraints = {node.get("STEREOTYPE") for node in root.iter("CONSTRAINT")}
    assert constraints == {"Time_Subdivision", "Symbolic_Subdivision", "Symbolic_Association", "Included_In"}
    tiers = {node.get("TIER_ID"): node.attrib for node in root.iter("TIER")}
    assert tiers["clip"] == {"TIER_ID": "clip", "LINGUISTIC_TYPE_REF": "clip"}
    assert all(tiers[name]["PARENT_REF"] == "clip" for name in tiers if name != "clip")


@pytest.mark.parametrize(
    ("name", "mime"),
    [("a.mov", "video/quicktime"), ("a.MP4", "video/mp4"), ("a.webm", "video/*"), ("a.mkv", "video/*")],
)
def test_the_video_is_linked_with_its_place_and_kind(tmp_path, name, mime):
    path = tmp_path / name
    film = Film(0, "", name, "", path, None, (TimedClip(0, 0, 1.0, 2.0),))
    root = ElementTree.fromstring(eaf_text(film).encode())
    (media,) = root.iter("MEDIA_DESCRIPTOR")
    assert media.get("MEDIA_URL") == path.as_uri()
    assert media.get("MEDIA_URL", "").startswith("file:///")
    assert media.get("RELATIVE_MEDIA_URL") == f"./{name}"
    assert media.get("MIME_TYPE") == mime


def test_odd_characters_make_a_document_that_can_be_read():
    clip = TimedClip(0, 0, 1.0, 2.0, song_title="a\x00b\x0b <&> \ud800é", reason={"song": "x\ufffey"})
    root = ElementTree.fromstring(eaf_text(Film(0, "", "", "", None, None, (clip,))).encode())
    values = [node.text for node in root.iter("ANNOTATION_VALUE")]
    assert values == ["0", "0 ab <&> é", "song: xy"]


def test_the_same_annotations_give_the_same_bytes(folder, out, tmp_path):
    export_annotations(folder, "elan", tmp_path / "again")
    for path in out.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_files_that_are_there_are_kept(folder, out):
    edited(first_file(out), ("30017", "30018"))
    before = first_file(out).read_bytes()
    with pytest.raises(UserError, match=r"already holds compilation_000000.eaf, compilation_000003.eaf: .*--overwrite"):
        export_annotations(folder, "elan", out)
    assert first_file(out).read_bytes() == before
    export_annotations(folder, "elan", out, overwrite=True)
    assert first_file(out).read_bytes() != before
    assert not list(out.glob("*.bak"))


# ------------------------------------------------------------------------------------------- home


def test_what_was_not_touched_comes_home_as_it_was(folder, out, tmp_path):
    told = home(out, folder, tmp_path / "home")
    assert (told.changed, told.added, told.removed, told.notes) == ((), (), (), ())
    before, after = read_proposals(folder), read_proposals(tmp_path / "home")
    for name in ("compilations", "clips", "songs", "proposals", "rejected", "same_songs"):
        pd.testing.assert_frame_equal(after.table(name), before.table(name))


def test_pympi_edits_come_home(folder, out, tmp_path):
    path = first_file(out)
    eaf = Eaf(str(path))
    slots = {value: name for name, value in eaf.timeslots.items()}
    eaf.timeslots[slots[30017]] = 29900
    eaf.add_annotation("clip", 40000, 44250, "")
    eaf.add_ref_annotation("song", "clip", 42000, "7")
    eaf.to_file(str(path))
    told = home(path, folder, tmp_path / "home")
    assert (told.changed, told.added) == ((2,), (7,))
    rows = read_proposals(tmp_path / "home").clips.set_index("clip_id")
    assert rows.loc[2, ["start_s", "end_s", "song_id", "released_segments"]].tolist() == [29.9, 38, 1, 3]
    assert rows.loc[7, ["compilation_id", "song_id", "start_s", "end_s"]].tolist() == [0, 7, 40, 44.25]
    assert rows.loc[1, "end_s"] == 21.2504
    reviews = read_proposals(tmp_path / "home").proposals.set_index("clip_id").review
    assert reviews[[0, 2, 7]].tolist() == ["accepted", "mended", "mended"]
    assert reviews[[1, 5]].isna().all()  # an ELAN file says nothing of who looked at what


def test_song_and_dancers_may_be_written_as_people_write(folder, out, tmp_path):
    edited(first_file(out), (">0 Vibe Ace<", "> 7 now this one <"))
    text = first_file(out).read_text(encoding="utf-8")
    at = text.index(">1<", text.index('TIER_ID="dancers"'))
    first_file(out).write_text(text[:at] + "> 4\n" + text[at + 2 :], encoding="utf-8")
    told = home(first_file(out), folder, tmp_path / "home")
    assert told.changed == (0,)
    row = read_proposals(tmp_path / "home").clips.set_index("clip_id").loc[0]
    assert (row.song_id, row.n_dancers, row.start_s, row.end_s) == (7, 4, 0, 9.5)


def test_a_plain_folder_comes_home_plain(tmp_path):
    folder = write_proposals_folder(tmp_path / "plain", proposals=False)
    export_annotations(folder, "elan", tmp_path / "out")
    edited(tmp_path / "out" / "compilation_000003.eaf", ("12500", "12000"))
    told = home(tmp_path / "out", folder, tmp_path / "home")
    assert told.changed == (5,)
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["clips.csv", "compilations.csv", "songs.csv"]
    lines = (tmp_path / "home" / "clips.csv").read_text(encoding="utf-8").splitlines()
    was = (folder / "clips.csv").read_text(encoding="utf-8").splitlines()
    assert [b for a, b in zip(was, lines, strict=True) if a != b] == ["5,3,0,2,12,3,5,"]


def test_a_document_made_without_the_export_is_known_by_its_video(folder, out, tmp_path):
    edited(first_file(out), ('<PROPERTY NAME="tiktok-dm:compilation_id">0</PROPERTY>', ""))
    assert home(first_file(out), folder, tmp_path / "home").changed == ()
    edited(first_file(out), ("best%20of.mp4", "worst%20of.mp4"))
    with pytest.raises(ProblemsError, match="names no compilation of the annotations: link its video"):
        home(first_file(out), folder, tmp_path / "other")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</ANNOTATION_DOCUMENT>", "", "compilation_000000.eaf: is not an EAF file"),
        ('TIER_ID="clip"', 'TIER_ID="clips"', "has no tier 'clip': keep the names"),
        (' TIME_VALUE="30017"', "", "has no times: align it in ELAN"),
        (">0 Vibe Ace<", ">Vibe Ace<", "clip at 0 s: 'Vibe Ace' in tier 'song' is no number"),
        (">0</PROPERTY>", ">9</PROPERTY>", "is of compilation 9, which the annotations do not have"),
        (">1</ANNOTATION_VALUE>", ">5</ANNOTATION_VALUE>", "clip 5 belongs to compilation 3, not here"),
        ('TIME_VALUE="38000"', 'TIME_VALUE="30010"', "end_s"),
    ],
)
def test_a_document_that_cannot_be_taken_over_is_named(folder, out, tmp_path, old, new, message):
    edited(first_file(out), (old, new))
    with pytest.raises(ProblemsError, match=message):
        home(out, folder, tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_a_folder_without_documents_is_refused(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no .eaf file"):
        home(tmp_path / "empty", folder, tmp_path / "home")
    with pytest.raises(ProblemsError, match=r"gone\.eaf: does not exist"):
        home(tmp_path / "gone.eaf", folder, tmp_path / "home")


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.floats(0.01, 20), min_size=1, max_size=8),
    gaps=st.lists(st.sampled_from([-0.0009, 0.0, 0.0005, 0.3, 2.0]), min_size=8, max_size=8),
    later=st.integers(2, 400),
)
def test_only_what_was_moved_changes_and_by_its_milliseconds(tmp_path_factory, lengths, gaps, later):
    clips, now = [], 0.01
    for k, (length, gap) in enumerate(zip(lengths, gaps, strict=False)):
        clips.append(TimedClip(k, k % 3, now + gap, now + gap + length))
        now = clips[-1].end_s
    base = in_memory(clips)
    path = tmp_path_factory.getbasetemp() / "round.eaf"
    path.write_text(eaf_text(Film(0, "", "a.mp4", "", None, None, tuple(clips))), encoding="utf-8")
    same, told = apply_regions(base, read_elan(path, base.annotations)[0])
    assert (told.changed, told.added, told.removed, told.notes) == ((), (), (), ())
    pd.testing.assert_frame_equal(same.clips, base.clips)
    eaf = Eaf(str(path))
    slot = list(eaf.tiers["clip"][0].values())[-1][1]  # the end of the last clip
    eaf.timeslots[slot] += later
    path.write_text(to_string(eaf), encoding="utf-8")
    made, told = apply_regions(base, read_elan(path, base.annotations)[0])
    last = len(clips) - 1
    assert told.changed == (last,)
    assert made.clips.end_s[last] == pytest.approx(eaf.timeslots[slot] / 1000, abs=1e-9)
    assert made.clips.start_s[last] == base.clips.start_s[last]
    pd.testing.assert_frame_equal(made.clips.drop(index=last), base.clips.drop(index=last))


def test_an_offset_given_in_elan_is_applied(folder, out, tmp_path):
    """With TIME_ORIGIN the document's time 0 is that instant of the video, in ms."""
    edited(first_file(out), ("<MEDIA_DESCRIPTOR ", '<MEDIA_DESCRIPTOR TIME_ORIGIN="1500" '))
    base = read_proposals(folder)
    regions, _ = read_elan(out, base.annotations)
    before = base.clips[(base.clips.compilation_id == 0) & base.clips.start_s.notna()].sort_values("start_s")
    moved = sorted(region.start_s for region in regions if region.compilation_id == 0)
    assert moved == pytest.approx([start + 1.5 for start in before.start_s], abs=1e-3)


@pytest.mark.parametrize("stated", ["x", "nan", "1e999"])
def test_an_offset_that_is_no_time_is_refused(folder, out, stated):
    edited(first_file(out), ("<MEDIA_DESCRIPTOR ", f'<MEDIA_DESCRIPTOR TIME_ORIGIN="{stated}" '))
    with pytest.raises((UserError, ProblemsError), match="no number of milliseconds"):
        read_elan(out, read_proposals(folder).annotations)

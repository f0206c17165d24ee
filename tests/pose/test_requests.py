"""How an estimator is asked for, and what is said when it can't be had."""

from __future__ import annotations

import importlib.util

import pytest

from tiktok_dm.errors import UserError
from tiktok_dm.pose import install_mmpose
from tiktok_dm.pose.base import Options
from tiktok_dm.pose.registry import get_estimator, parse_request, portable_request


def test_a_name_alone_has_no_options() -> None:
    assert parse_request("mmpose") == ("mmpose", Options())


def test_options_behind_the_name() -> None:
    name, options = parse_request("mmpose:model=s, device=cuda:1,weights=/data/a=b.pth,batch=32,flip=yes,half=no")
    assert name == "mmpose"
    assert options == Options(model="s", weights="/data/a=b.pth", device="cuda:1", batch=32, flip=True, half=False)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ("mmpose:modle=s", "did you mean 'model'"),
        ("mmpose:model", "write model=VALUE"),
        ("mmpose:model=s,model=m", "write model=VALUE, once"),
        ("mmpose:flip=maybe", "must be yes or no"),
        ("mmpose:batch=0", "from 1 to 4096"),
        ("mmpose:batch=-3", "from 1 to 4096"),
        ("mmpose:zzz=1", "choose from: model"),
    ],
)
def test_a_wrong_option_is_explained(request_: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        get_estimator(request_)


def test_what_is_published_says_nothing_of_the_machine() -> None:
    assert portable_request("mmpose") == "mmpose"
    assert portable_request("mmpose:device=cuda:0,batch=8,weights=/home/x.pth") == "mmpose"
    assert portable_request("mmpose:model=s,device=cuda:0,flip=yes,detector=/d") == "mmpose:model=s,flip=yes"


def test_an_option_of_another_estimator_is_refused() -> None:
    with pytest.raises(UserError, match="mediapipe has no option 'device': it takes models"):
        get_estimator("mediapipe:device=cpu")


@pytest.mark.parametrize("name", ["mmpose", "vitpose"])
def test_a_missing_package_is_named_with_the_one_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda module, *rest: None if module == "transformers" else find(module, *rest)
    )
    with pytest.raises(UserError, match=r"\(.*transformers.*\): run 'python -m tiktok_dm\.pose\.install_mmpose'"):
        get_estimator(name)


def test_the_command_shows_what_it_would_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert install_mmpose.main(["--dry-run"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "--no-deps" not in first
    assert "transformers" in first
    assert "--no-deps mmpose==1.3.2" in second
    assert "mmdet" not in second
    assert install_mmpose.main(["--dry-run", "--only", "vitpose"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1

"""The inference ladder: time, joins, batches, pieces, pairs of model and codec."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sampling_factory import (
    FRAMES,
    HOP,
    RATE,
    PlainCodec,
    Stub,
    moving_poses,
    tiny_codec,
    tiny_config,
    tiny_model,
    write_checkpoint,
)

from d2m_model.codec.files import fingerprint, write_codec
from d2m_model.motion import to_units
from d2m_model.sampling import sampler
from d2m_model.sampling.dance import dance_from_poses
from d2m_model.sampling.sampler import (
    CodesToAudio,
    DanceToMusic,
    LatentsToCodes,
    MotionToLatents,
    decoder_context,
    open_codec_of,
)
from d2m_model.sampling.windows import WindowPlan, join_latents, motion_windows, plan_windows, seam_energy
from tiktok_dm.errors import UserError
from tiktok_dm.machine import find_device

# --- windows and time


def plan_of(seconds: float, overlap: float = 0.25) -> WindowPlan:
    return plan_windows(seconds, FRAMES, HOP, RATE, overlap)


def test_two_seconds_are_one_window_as_in_training() -> None:
    plan = plan_of(2.0)
    assert plan.starts == (0,)
    assert (plan.n_samples, plan.n_frames) == (44_100, 345)  # 344.53 frames
    assert len(plan.joins_s) == 0


@pytest.mark.parametrize(("level", "frames", "hop"), [("high", 344, 128), ("low", 1378, 32)])
def test_two_seconds_of_the_released_preset_are_the_authors_frames_bit_for_bit(level, frames, hop) -> None:
    """Their loop: the window through the network, its latent to codes, all codes decoded; nothing added or cut."""
    config = tiny_config("released", level)
    model, codec = tiny_model(config, seed=3), tiny_codec(2 if level == "high" else 1, seed=3)
    poses = moving_poses(2)
    with torch.no_grad():
        codes = codec.quantise(model(torch.from_numpy(poses.reshape(1, 60, 75)))).codes
        audio = codec.decode(codec.dequantise(codes))[0, 0].numpy()
    music = DanceToMusic(model, codec, "cpu")(poses)
    assert len(music.codes) == frames
    assert len(music.audio) == frames * hop
    assert np.array_equal(music.codes, codes[0].numpy())
    assert np.array_equal(music.audio, audio)
    # Any other length is the dance's own, and so is that of the other preset.
    assert len(DanceToMusic(model, codec, "cpu")(moving_poses(3)).audio) == 3 * RATE
    own = tiny_model(tiny_config("paper", level))
    assert len(DanceToMusic(own, codec, "cpu")(poses).audio) == 2 * RATE


def test_windows_begin_at_multiples_of_the_stride_and_the_last_ends_with_the_dance() -> None:
    plan = plan_of(6.0)
    # 132,300 samples are 1033.6 frames; a quarter of 344 is 86, the stride 258; 1 + ceil((1034 - 344) / 258) = 4.
    assert (plan.n_samples, plan.n_frames, plan.fade, plan.stride) == (132_300, 1034, 86, 258)
    assert plan.starts == (0, 258, 516, 690)
    assert plan.starts_s == pytest.approx([0, 258 * 128 / 22050, 516 * 128 / 22050, 690 * 128 / 22050], abs=1e-12)
    # The middle of each fade: 258 + 43, 516 + 43, 774 + 43 frames.
    assert plan.joins_s == pytest.approx(np.array([301, 559, 817]) * 128 / 22050, abs=1e-12)
    hard = plan_of(6.0, 0.0)
    assert hard.starts == (0, 344, 688, 690)
    assert hard.joins_s == pytest.approx(np.array([344, 688, 1032]) * 128 / 22050, abs=1e-12)


@pytest.mark.parametrize("level", [(FRAMES, HOP), (1378, 32)])
@pytest.mark.parametrize("overlap", [0.0, 0.1, 0.25, 0.5])
def test_any_length_is_covered_and_never_past_its_end(level: tuple[int, int], overlap: float) -> None:
    length, hop = level
    for seconds in (1.9995, 2.0, 2.004, 2.01, 3.217, 12.5, 61.3):
        plan = plan_windows(seconds, length, hop, RATE, overlap)
        assert plan.starts[0] == 0
        assert plan.starts == tuple(sorted(set(plan.starts)))
        reach = plan.starts[-1] + length
        assert reach >= plan.n_frames - (len(plan.starts) == 1)
        if len(plan.starts) > 1:
            assert reach == plan.n_frames
            # Poses stop a frame of the grid before the window ends, inside the dance.
            assert plan.starts_s[-1] + 59 / 30 < seconds


def test_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(UserError, match=r"clip_7 is 1.90 s long"):
        plan_windows(1.9, FRAMES, HOP, RATE, where="clip_7")
    with pytest.raises(UserError, match=r"overlap is 0.6"):
        plan_of(4.0, 0.6)


def test_a_window_sees_the_poses_of_its_instant_at_thirty_a_second() -> None:
    seconds = np.arange(300) / 30
    poses = np.zeros((300, 25, 3), np.float32)
    poses[..., 0], poses[..., 2] = seconds[:, None], 1.0
    config = tiny_config(motion_units="as_given")
    plan = plan_of(10.0)
    motion = motion_windows(poses, 30, plan, config, "x")
    assert motion.shape == (len(plan.starts), 60, 75)
    for k, start in enumerate(plan.starts):
        times_s = start * 128 / 22050 + np.arange(60) / 30
        assert motion[k, :, 0] == pytest.approx(np.minimum(times_s, 299 / 30), abs=2e-6)  # the last picture stays
    # Dance at another rate: the same instants.
    assert motion_windows(poses[::2], 15, plan, config, "x")[1, :50, 0] == pytest.approx(motion[1, :50, 0], abs=2e-6)


def test_poses_come_in_the_models_units() -> None:
    poses = moving_poses(4)
    plan = plan_of(4.0)
    pixels = motion_windows(poses, 30, plan, tiny_config(motion_units="as_given"), "x")
    assert motion_windows(poses, 30, plan, tiny_config(), "x") == pytest.approx(to_units(pixels, "movement"))
    with pytest.raises(UserError, match="219 numbers a pose"):
        motion_windows(poses, 30, plan, tiny_config(motion_features=219, motion_frames=120), "x")


def test_a_signal_at_dance_times_does_not_drift_over_a_minute() -> None:
    """A model that says the dance's own time, read from the poses: latent frame n must say n * hop / rate."""
    frames = torch.arange(FRAMES) * HOP / RATE
    poses = np.zeros((1800, 25, 3), np.float32)
    poses[..., 0], poses[..., 2] = (np.arange(1800) / 30)[:, None], 1.0
    for overlap in (0.0, 0.25, 0.5):
        maker = DanceToMusic(Stub(lambda m: m[:, :1, 0] + frames), PlainCodec(), "cpu", overlap=overlap)
        music = maker(dance_from_poses(poses))
        said_s = music.codes * 1e-3
        true_s = np.arange(len(said_s)) * HOP / RATE
        assert len(music.audio) == 60 * RATE
        assert np.abs(said_s - true_s).max() < 0.2 * HOP / RATE  # 1.2 ms; counted as 2 s, windows would be 96 ms late


# --- joins


def test_the_fade_is_a_raised_cosine_whose_weights_sum_to_one() -> None:
    plan = plan_of(3.5)
    assert plan.starts == (0, 258, 259)
    ones = torch.ones(3, 1, FRAMES)
    assert torch.allclose(join_latents(ones, plan), torch.ones(1, plan.n_frames))
    steps = torch.cat([torch.zeros(1, 1, FRAMES), torch.ones(1, 1, FRAMES), torch.full((1, 1, FRAMES), 1.0)])
    joined = join_latents(steps, plan)[0]
    assert joined[:258].abs().max() == 0
    n = np.arange(86) + 0.5
    assert joined[258:344].numpy() == pytest.approx((1 - np.cos(np.pi * n / 86)) / 2, abs=1e-6)
    assert torch.allclose(joined[344:], torch.ones(plan.n_frames - 344))


def test_each_frame_comes_from_its_own_place_in_the_window() -> None:
    # Windows that count latent frames from the dance's start: joined, they count on, also in the last, shifted one.
    for seconds, overlap in ((2.0, 0.25), (5.3, 0.0), (5.3, 0.25), (9.99, 0.5)):
        plan = plan_of(seconds, overlap)
        counted = torch.stack([torch.arange(FRAMES) + start for start in plan.starts])[:, None].double()
        joined = join_latents(counted, plan)[0]
        wanted = torch.arange(plan.n_frames).double()
        wanted[plan.starts[-1] + FRAMES :] = FRAMES - 1  # 2 s: the rest of a frame is held
        assert torch.allclose(joined, wanted)
    with pytest.raises(ValueError, match="do not fit"):
        join_latents(torch.zeros(2, 1, 100), plan_of(3.5))


def test_seam_energy_by_hand() -> None:
    audio = np.zeros(2 * RATE)
    audio[RATE:] = 0.5  # one step, at 1 s
    assert seam_energy(audio, [1.0], RATE) == np.inf
    assert seam_energy(np.zeros(RATE), [0.5], RATE) == 1.0
    assert seam_energy(audio, [], RATE) == 1.0
    ramp = np.arange(2 * RATE) * 1e-3
    assert seam_energy(ramp, [1.0], RATE) == pytest.approx(1.0)
    # A step of 0.5 on the ramp: 220 differences near the join, of which one is 0.501.
    assert seam_energy(ramp + audio, [1.0], RATE) == pytest.approx((219 * 1e-6 + 0.501**2) / 220 / 1e-6, rel=1e-6)


def test_latents_joined_before_decoding_do_not_click_and_sound_joined_after_it_does() -> None:
    """Windows that disagree: each says another constant, so that its sound lies at another level."""
    maker = DanceToMusic(
        Stub(lambda m: (m[:, :1, 0] % 0.7).expand(-1, FRAMES)), codec := PlainCodec(), "cpu", overlap=0.25
    )
    poses = np.zeros((360, 25, 3), np.float32)
    poses[..., 0], poses[..., 2] = (np.arange(360) / 30)[:, None], 1.0
    dance = dance_from_poses(poses)
    music = maker(dance)
    joins = music.plan.joins_s
    assert len(joins) == 7
    assert seam_energy(music.audio, joins, RATE) == pytest.approx(1.0, abs=0.05)

    prepared = maker.prepare(dance)
    plan, motion = prepared.plan, prepared.motion
    latents = maker.to_latents(motion)
    pieces = [codec.decode(latent[None])[0, 0].numpy() for latent in latents]
    # Sound laid end to end where the fades' middles are: it jumps from one level to the next.
    cuts = [0, *np.round(joins * RATE).astype(int), plan.n_samples]
    after = np.concatenate(
        [piece[a - s * HOP : b - s * HOP] for piece, s, a, b in zip(pieces, plan.starts, cuts, cuts[1:], strict=False)]
    )
    assert seam_energy(after, joins, RATE) > 10


def test_a_prepared_dance_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """`d2m sample` finds what a dance lacks before it fills a batch, and its windows are made once all the same."""
    maker = DanceToMusic(Stub(lambda m: torch.full((len(m), FRAMES), 0.3)), PlainCodec(), "cpu")
    dances = [dance_from_poses(moving_poses(seconds)) for seconds in (3, 5)]
    wanted = maker.many(dances)
    made = []
    windows = sampler.motion_windows
    monkeypatch.setattr(sampler, "motion_windows", lambda *given: made.append(given) or windows(*given))
    music = maker.many([maker.prepare(dance) for dance in dances])
    assert len(made) == 2
    assert [one.audio.tobytes() for one in music] == [one.audio.tobytes() for one in wanted]


def test_windows_that_agree_have_no_seams_at_any_overlap() -> None:
    for overlap in (0.0, 0.25):
        maker = DanceToMusic(Stub(lambda m: torch.full((len(m), FRAMES), 0.3)), PlainCodec(), "cpu", overlap=overlap)
        music = maker(dance_from_poses(moving_poses(9)))
        assert seam_energy(music.audio, music.plan.joins_s, RATE) == pytest.approx(1.0, abs=0.02)


# --- the ladder


@pytest.mark.parametrize(("preset", "level"), [("paper", "high"), ("paper", "low"), ("released", "high")])
def test_the_whole_is_its_steps(preset: str, level: str) -> None:
    config = tiny_config(preset, level)
    model, codec = tiny_model(config), tiny_codec(2 if level == "high" else 1)
    maker = DanceToMusic(model, codec, "cpu")
    dance = dance_from_poses(moving_poses(4.5))
    music = maker(dance)
    assert len(music.audio) == round(4.5 * RATE)
    assert music.audio.dtype == np.float32
    assert music.sample_rate == RATE

    prepared = maker.prepare(dance)
    plan, motion = prepared.plan, prepared.motion
    latents = MotionToLatents(model)(motion)
    with torch.no_grad():
        assert torch.allclose(latents, model(torch.tensor(motion)), atol=1e-4)  # weight norm folded or not
    codes = LatentsToCodes(codec)(join_latents(latents, plan))
    assert codes.shape == (plan.n_frames,)
    assert np.array_equal(codes.numpy(), music.codes)
    assert not torch.equal(latents[0], latents[1])
    assert np.array_equal(CodesToAudio(codec)(codes)[: plan.n_samples], music.audio)


def test_a_two_second_dance_is_what_the_bare_networks_make() -> None:
    model, codec = tiny_model(), tiny_codec()
    poses = moving_poses(2.0)
    music = DanceToMusic(model, codec, "cpu")(poses)
    with torch.no_grad():
        codes = codec.quantise(model(torch.tensor(to_units(poses.reshape(1, 60, 75), "movement")))).codes
        held = torch.cat([codes, codes[:, -1:]], dim=1)
        audio = codec.decode(codec.dequantise(held))[0, 0, :44_100]
    assert np.array_equal(music.codes, held[0].numpy())
    assert music.audio == pytest.approx(audio.numpy(), abs=1e-6)


def test_the_model_that_is_given_stays_as_it_was() -> None:
    model = tiny_model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    DanceToMusic(model, tiny_codec(), "cpu")(moving_poses(2.5))
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_batches_and_one_by_one_make_the_same_music() -> None:
    model, codec = tiny_model(), tiny_codec()
    dances = [dance_from_poses(moving_poses(seconds, seed=n)) for n, seconds in enumerate((2.0, 7.3, 3.1, 4.0))]
    one_by_one = [DanceToMusic(model, codec, "cpu", batch=1)(dance) for dance in dances]
    for batch in (3, 64):
        together = DanceToMusic(model, codec, "cpu", batch=batch).many(dances)
        for single, music in zip(one_by_one, together, strict=True):
            assert np.array_equal(single.codes, music.codes)
            assert music.audio == pytest.approx(single.audio, abs=1e-6)
    assert DanceToMusic(model, codec, "cpu").many([]) == []


def test_the_music_depends_on_the_dance_and_on_no_seed() -> None:
    maker = DanceToMusic(tiny_model(), tiny_codec(), "cpu")
    torch.manual_seed(1)
    first = maker(moving_poses(3.0))
    torch.manual_seed(2)
    assert np.array_equal(maker(moving_poses(3.0)).audio, first.audio)
    assert not np.array_equal(maker(moving_poses(3.0, seed=9)).codes, first.codes)


@pytest.mark.parametrize("level", [1, 2])
def test_decoding_in_pieces_equals_decoding_at_once(level: int) -> None:
    codec = tiny_codec(level)
    codes = torch.randint(0, 16, (2000,), generator=torch.Generator().manual_seed(0))
    to_audio = CodesToAudio(codec, chunk_s=0.5)
    assert to_audio.chunk < 700
    with torch.no_grad():
        whole = codec.decode(codec.dequantise(codes[None]))[0, 0].numpy()
    assert to_audio(codes) == pytest.approx(whole, abs=1e-6)
    assert len(to_audio(codes[:1])) == codec.hop


def test_the_decoders_reach_is_bounded_by_its_context() -> None:
    codec = tiny_codec()
    context = decoder_context(codec)
    # By hand: dilations 1 and 3 (sum 4, plus 1 for the up-sampling) at rates 1, 2 | 4, 8 | 16, 32, 64, a convolution
    # of reach 1 in front of each block and behind all.
    by_hand = 1 + 5 + 5 / 2 + 1 / 4 + 5 / 4 + 5 / 8 + 1 / 16 + 5 / 16 + 5 / 32 + 5 / 64 + 1 / 128
    assert context == int(np.ceil(by_hand)) == 12
    latent = torch.randn(1, 8, 101)
    with torch.no_grad():
        reference = codec.decode(latent)
        latent[..., 50] += 1.0
        changed = (codec.decode(latent) != reference)[0, 0].nonzero()[:, 0] // HOP
    assert 50 - context <= changed.min() < 50 < changed.max() <= 50 + context
    assert decoder_context(PlainCodec()) is None
    from d2m_model.codec.jukebox import JukeboxVQVAE

    assert decoder_context(JukeboxVQVAE(2)) == 83  # the public one: 0.48 s


# --- pairs of model and codec


def test_a_checkpoint_brings_its_own_codec(tmp_path: Path) -> None:
    codec = tiny_codec()
    codec.licence = "For tests only."
    maker = DanceToMusic.from_pretrained(write_checkpoint(tmp_path / "best", codec=codec), device="cpu")
    music = maker(moving_poses(2.5))
    assert music.licence == "For tests only."
    direct = DanceToMusic(tiny_model(), codec, "cpu")(moving_poses(2.5))
    assert np.array_equal(music.codes, direct.codes)


def test_the_recorded_codec_is_found_and_held_to_its_fingerprint(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "best")
    with pytest.raises(UserError, match=r"neither holds a codec nor says .* give --codec"):
        DanceToMusic.from_pretrained(folder)
    (tmp_path / "codec").mkdir()
    codec = tiny_codec()
    write_codec(codec, tmp_path / "codec")
    record = {"path": str(tmp_path / "codec"), "sha256": fingerprint(codec)}
    (folder / "training.json").write_text(json.dumps({"codec": record, "step": 3}))
    assert fingerprint(DanceToMusic.from_pretrained(folder, device="cpu").codec) == fingerprint(codec)

    (tmp_path / "other").mkdir()
    write_codec(tiny_codec(seed=5), tmp_path / "other")
    with pytest.raises(UserError, match="is not the one that the model"):
        DanceToMusic.from_pretrained(folder, tmp_path / "other")
    (folder / "training.json").write_text(json.dumps({"codec": record | {"path": str(tmp_path / "gone")}}))
    with pytest.raises(UserError, match="which is not there: give --codec"):
        open_codec_of(folder, tiny_config())
    (folder / "training.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        open_codec_of(folder, tiny_config())


def test_model_and_codec_must_belong_together(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"level 'high'.*hop is 32"):
        DanceToMusic(tiny_model(), tiny_codec(1))
    (tmp_path / "codec").mkdir()
    write_codec(tiny_codec(1), tmp_path / "codec")
    with pytest.raises(UserError, match="of level 1; level 2 is needed"):
        DanceToMusic.from_pretrained(write_checkpoint(tmp_path / "best"), tmp_path / "codec")
    with pytest.raises(UserError, match="latents of 4 channels, and the codec has 8"):
        DanceToMusic(tiny_model(tiny_config(latent_channels=4)), tiny_codec())
    with pytest.raises(UserError, match=r"32 latent frames for 2 s .* 344 in that time"):
        DanceToMusic(tiny_model(tiny_config(latent_frames=32)), tiny_codec())
    with pytest.raises(UserError, match=r"overlap is 0.9"):
        DanceToMusic(tiny_model(), tiny_codec(), overlap=0.9)
    with pytest.raises(UserError, match=r"no device 'cuda:77'"):
        find_device("cuda:77")


def test_a_truncated_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "best", codec=tiny_codec())
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(UserError, match="not a readable checkpoint"):
        DanceToMusic.from_pretrained(folder)


def test_a_diverged_model_is_one_sentence() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.generator.lin.bias.fill_(float("nan"))
    with pytest.raises(UserError, match="output is not finite"):
        DanceToMusic(model, tiny_codec(), "cpu")(moving_poses(2.0))


def test_visual_features_and_genres_are_taken_from_python() -> None:
    config = tiny_config(visual_features=24, genres=3)
    maker = DanceToMusic(tiny_model(config), tiny_codec(), "cpu", batch=2)
    dance = dance_from_poses(moving_poses(6.0))
    visual = np.random.default_rng(0).standard_normal((len(maker.plan(dance).starts), 24)).astype(np.float32)
    music = maker(dance, visual=visual, genre=1)
    assert not np.array_equal(maker(dance, visual=visual, genre=2).codes, music.codes)
    assert not np.array_equal(maker(dance, visual=-visual, genre=1).codes, music.codes)
    with pytest.raises(UserError, match="motion only"):
        maker(dance, genre=1)
    with pytest.raises(UserError, match="give one of 0 to 2"):
        maker(dance, visual=visual)
    with pytest.raises(UserError, match="no genre 3"):
        maker(dance, visual=visual, genre=3)
    with pytest.raises(UserError, match="4 windows, and visual features for 1"):
        maker(dance, visual=visual[:1], genre=1)
    plain = DanceToMusic(tiny_model(), tiny_codec(), "cpu")
    with pytest.raises(UserError, match="without visual features"):
        plain(dance, visual=visual)
    with pytest.raises(UserError, match="without genres"):
        plain(dance, genre=0)

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainset import buzz, make_pitch, make_pool, write_manifest, write_tar
from unitoken.errors import TrainError
from unitoken.train.augment import Perturbation, envelope, perturb, stretch
from unitoken.train.batches import collate
from unitoken.train.noise import NoiseBank
from unitoken.train.offsets import frame_offsets
from unitoken.train.pitch import PitchCache, compute_pitch
from unitoken.train.pool import Pool, read_speakers, split_pool
from unitoken.train.pool_files import build_pool, change_speed, keep_sources, merge_pools, transcript_of
from unitoken.train.sampling import Crop, SpeakerSampler
from unitoken.train.sources import Source, band_limits, read_sources
from unitoken.train.store import AudioStore, FrameStore, take


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return make_pool(tmp_path_factory.mktemp("data"))


def test_a_pool_keeps_every_sample_and_row(pool):
    assert len(pool) == 12
    first = pool.utterances[4]
    assert (first.path, first.who, first.transcript) == ("bench/s1/1.flac", ("bench", "s1"), "clip 4")
    expected = np.rint(buzz(0.9, 180, 4) * 32768) / 32768
    assert np.abs(pool.wave(first) - expected).max() <= 1 / 32768
    assert np.array_equal(pool.wave(first, 100, 50), pool.wave(first)[100:150])
    assert len(pool.wave(first, first.samples - 10, 50)) == 10
    assert pool.hours == sum(u.samples for u in pool.utterances) / 16000 / 3600


def test_a_pool_opens_again(pool):
    again = Pool(pool.folder)
    assert again.utterances == pool.utterances
    assert np.array_equal(again.audio, pool.audio)


def test_other_sample_rates_become_16_khz(tmp_path):
    wave = np.sin(2 * np.pi * 440 * np.arange(48000) / 48000).astype(np.float32) * 0.5
    built = build_pool(
        write_manifest(tmp_path / "m.tsv", [("a.flac", "x", "y", "en", "")]),
        [write_tar(tmp_path / "a.tar", [("a.flac", wave, 48000)])],
        tmp_path / "p",
    )
    assert built.utterances[0].samples == 16000
    assert np.abs(np.fft.rfft(built.wave(built.utterances[0]))).argmax() == 440


@pytest.mark.parametrize("text", ['she said "no"', "a\\b", "[noise]", "caf\u00e9"])
def test_transcripts_come_back_as_they_were(tmp_path, text):
    rows = [("a.flac", "x", "y", "en", text)]
    built = build_pool(write_manifest(tmp_path / "m.tsv", rows), [write_tar(tmp_path / "a.tar", [("a.flac", buzz(0.1, 200), 16000)])], tmp_path / "p")
    assert built.utterances[0].transcript == transcript_of(text) == ("" if text == "[noise]" else text)


def test_files_that_the_manifest_lacks_are_left_out(tmp_path):
    archive = write_tar(tmp_path / "a.tar", [("a.flac", buzz(0.1, 200), 16000), ("b.flac", buzz(0.1, 200), 16000)])
    rows = [("b.flac", "x", "y", "en", ""), ("c.flac", "x", "y", "en", "")]
    assert [u.path for u in build_pool(write_manifest(tmp_path / "m.tsv", rows), [archive], tmp_path / "p").utterances] == ["b.flac"]
    with pytest.raises(TrainError, match="no member of the 1 archives"):
        build_pool(write_manifest(tmp_path / "m.tsv", rows[1:]), [archive], tmp_path / "q")
    with pytest.raises(TrainError, match="1 paths stand twice"):
        build_pool(write_manifest(tmp_path / "m.tsv", rows[:1] * 2), [archive], tmp_path / "q")


def test_pools_are_joined_in_the_order_given(pool, tmp_path):
    other = make_pool(tmp_path / "other", 2, 2)
    renamed = build_pool(
        write_manifest(tmp_path / "m.tsv", [("z.flac", "x", "y", "en", "a\\b")]),
        [write_tar(tmp_path / "z.tar", [("z.flac", buzz(0.3, 200), 16000)])],
        tmp_path / "z",
    )
    joined = merge_pools([renamed, pool], tmp_path / "joined")
    assert [u.path for u in joined.utterances] == ["z.flac", *(u.path for u in pool.utterances)]
    assert joined.utterances[0].transcript == "a\\b"
    for one, two in zip(joined.utterances[1:], pool.utterances, strict=True):
        assert np.array_equal(joined.wave(one), pool.wave(two))
    with pytest.raises(TrainError, match="2 pools with 16 utterances of 14 paths cannot be joined"):
        merge_pools([pool, other], tmp_path / "twice")
    with pytest.raises(TrainError, match="0 pools"):
        merge_pools([], tmp_path / "none")


@pytest.mark.parametrize("speed", [0.9, 1.25])
def test_a_pool_at_another_speed(tmp_path, speed):
    tone = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000).astype(np.float32) * 0.5
    rows = [("a.flac", "x", "y", "en", "words"), ("b.flac", "x", "z", "en", "")]
    archive = write_tar(tmp_path / "a.tar", [("a.flac", tone, 16000), ("b.flac", buzz(0.3, 200), 16000)])
    pool = build_pool(write_manifest(tmp_path / "m.tsv", rows), [archive], tmp_path / "p")
    copies = change_speed(pool, tmp_path / "q", speed)
    first, second = copies.utterances
    assert (first.path, first.who, first.transcript, first.speed) == (f"a.flac@{speed}", ("x", "y"), "words", speed)
    assert [first.samples, second.samples] == [math.ceil(16000 / speed), math.ceil(4800 / speed)]
    spectrum = np.abs(np.fft.rfft(copies.wave(first) * np.hanning(first.samples)))
    assert spectrum.argmax() * 16000 / first.samples == pytest.approx(440 * speed, abs=1)
    assert np.abs(copies.wave(first)[100:-100]).max() == pytest.approx(0.5, abs=0.01)
    joined = merge_pools([pool, copies], tmp_path / "joined")
    assert [u.speed for u in joined.utterances] == [1, 1, speed, speed]
    assert split_pool(joined, {("x", "y")})[0] == [joined.utterances[1], joined.utterances[3]]
    assert len({u.voice for u in joined.utterances}) == 4
    assert change_speed(copies, tmp_path / "r", 0.8).utterances[0].speed == pytest.approx(speed * 0.8)


@pytest.mark.parametrize("speed", [1.0, 0.4, 2.1, 0.905])
def test_speeds_that_are_refused(pool, tmp_path, speed):
    with pytest.raises(TrainError, match="in hundredths and not 1, got"):
        change_speed(pool, tmp_path / "q", speed)
    assert not (tmp_path / "q").exists()


def test_pools_written_before_speeds_were_known_open(tmp_path):
    made = make_pool(tmp_path, 1, 2)
    index = made.folder / "pool.tsv"
    index.write_text("".join(line.rpartition("\t")[0] + "\n" for line in index.read_text().splitlines()))
    assert "speed" not in index.read_text()
    assert Pool(made.folder).utterances == made.utterances


@pytest.mark.parametrize("name", ["pool.tsv", "audio.i16"])
def test_a_folder_that_is_no_pool_is_refused(tmp_path, name):
    made = make_pool(tmp_path, 1, 1)
    (made.folder / name).unlink()
    with pytest.raises(TrainError, match=f"no training pool \\({name} is missing\\); make one with: unitoken train pool"):
        Pool(made.folder)


def test_parts_that_do_not_belong_together_are_refused(tmp_path):
    made = make_pool(tmp_path, 1, 2)
    with (made.folder / "audio.i16").open("ab") as file:
        file.write(b"\0\0")
    with pytest.raises(TrainError, match="build the pool again"):
        Pool(made.folder)


def test_held_out_speakers_are_never_drawn(pool, tmp_path):
    listed = tmp_path / "valid.tsv"
    listed.write_text("source\tspeaker\nbench\ts1\n")
    train, held_out = split_pool(pool, read_speakers(listed))
    assert {u.who for u in held_out} == {("bench", "s1")}
    sampler = SpeakerSampler(train)
    drawn = {crop.utterance.who for step in range(40) for crop in sampler.draw(step, 4, 8000, 640)}
    assert drawn == {u.who for u in pool.utterances} - {("bench", "s1")}


def test_a_wrong_list_of_speakers_is_refused(pool):
    with pytest.raises(TrainError, match=r"\('bench', 'nobody'\).*another pool"):
        split_pool(pool, {("bench", "nobody")})
    with pytest.raises(TrainError, match="nothing is left"):
        split_pool(pool, {u.who for u in pool.utterances})


@given(st.integers(0, 1000), st.integers(0, 3))
def test_draws_depend_on_seed_and_step_alone(pool, step, seed):
    one, two = SpeakerSampler(pool.utterances, seed=seed), SpeakerSampler(pool.utterances, seed=seed)
    two.draw(step + 1, 4, 8000, 640)
    crops = one.draw(step, 4, 8000, 640)
    assert crops == two.draw(step, 4, 8000, 640)
    assert [c.samples for c in crops] == sorted((c.samples for c in crops), reverse=True)
    for crop in crops:
        assert crop.start % 640 == 0
        assert crop.samples == min(8000, crop.utterance.samples)
        assert crop.start + crop.samples <= crop.utterance.samples


def test_seeds_differ_and_corpus_weights_count(pool):
    assert SpeakerSampler(pool.utterances, seed=0).draw(0, 8, 8000, 640) != SpeakerSampler(pool.utterances, seed=1).draw(0, 8, 8000, 640)
    chances = SpeakerSampler(pool.utterances, sources={"bench": Source(weight=0.0)}).chances
    assert chances[:9].sum() == 0
    assert chances.sum() == pytest.approx(1)


def test_clips_of_nobody_known_count_as_several_people(pool):
    some = [replace(u, speaker="unk") if u.source == "arabic-sc" else u for u in pool.utterances]
    one, many = (SpeakerSampler(some, sources={"arabic-sc": Source(people=people)}).chances[9:].sum() for people in (1, 3))
    assert many / (1 - many) == pytest.approx(3**0.3 * one / (1 - one))


def test_sources_are_kept_with_the_pool(pool, tmp_path):
    assert Pool(pool.folder).sources == {"arabic-sc": Source(band_hz=4000.0)}
    assert merge_pools([pool], tmp_path / "joined").sources == pool.sources
    assert change_speed(pool, tmp_path / "slow", 0.9).sources == pool.sources
    limits = band_limits(pool.sources, ["bench", "arabic-sc", "bench", "arabic-sc"], [1.0, 1.0, 0.9, 1.1], 8000.0)
    assert limits.tolist() == pytest.approx([8000.0, 4000.0, 7200.0, 4400.0])
    path = tmp_path / "s.tsv"
    path.write_text("source\tweight\tpeople\tband_hz\na\t0.5\t\t\nb\t\t7\t7000\n")
    assert read_sources(path) == {"a": Source(0.5), "b": Source(1.0, 7, 7000.0)}


@pytest.mark.parametrize("row", ["a\tmuch", "a\t-1", "\t1", "a\t1\na\t2"])
def test_sources_that_cannot_be_read_are_refused(pool, tmp_path, row):
    path = tmp_path / "s.tsv"
    path.write_text(f"source\tweight\n{row}\n")
    with pytest.raises(TrainError, match=r"s\.tsv: .*weight"):
        keep_sources(path, pool.folder)
    path.write_text("source\theavy\na\t1\n")
    with pytest.raises(TrainError, match="the columns are source, weight, people, band_hz"):
        read_sources(path)
    assert pool.sources == Pool(pool.folder).sources


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_a_batch_is_padded_and_masked(pool):
    crops = [Crop(pool.utterances[9], 640, 6000), Crop(pool.utterances[0], 0, 700)]
    batch = collate(AudioStore(pool), crops, 640, None, seeded(0))
    assert batch.clean.shape == (2, 6400)
    assert batch.degraded.data_ptr() == batch.clean.data_ptr()
    assert batch.mask[:, :, 0].sum(1).tolist() == [10, 2]
    assert np.array_equal(batch.clean[0, :6000], pool.wave(pool.utterances[9], 640, 6000))
    assert not batch.clean[:, 6000:].any()
    assert not batch.clean[1, 700:].any()


@given(st.data())
def test_taking_rows_agrees_with_a_loop(data):
    rows, width = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 12))
    first = data.draw(st.lists(st.integers(0, rows), min_size=1, max_size=4))
    count = [data.draw(st.integers(0, rows - start)) for start in first]
    held = torch.arange(1.0, rows * 2 + 1).view(rows, 2)
    expected = torch.full((len(first), width, 2), torch.nan)
    for row, (start, length) in enumerate(zip(first, count, strict=True)):
        expected[row, : min(length, width)] = held[start : start + min(length, width)]
    taken = take(held, torch.tensor(first), torch.tensor(count), width, torch.nan)
    assert torch.equal(taken.nan_to_num(-1), expected.nan_to_num(-1))


def test_stores_give_frames_of_their_own_hop(pool):
    offsets, total = frame_offsets(pool, 640)
    store = FrameStore(torch.arange(total), offsets, 640, fill=-1)
    one, two = pool.utterances[3], pool.utterances[8]
    cut = store.crop([Crop(one, 1280, 2000), Crop(two, 0, two.samples)], 7)
    start = offsets[one.path] + 2
    assert cut[0].tolist() == [start, start + 1, start + 2, start + 3, -1, -1, -1]
    assert cut[1].tolist() == list(range(offsets[two.path], offsets[two.path] + 7))
    assert store.to("cpu").data is store.data


def test_the_audio_on_a_cpu_is_the_memory_map_and_the_file_stays_as_it_is(pool):
    store, before = AudioStore(pool), (pool.folder / "audio.i16").read_bytes()
    assert store.data.data_ptr() == pool.audio.ctypes.data
    store.data[:10] = 7
    assert (pool.folder / "audio.i16").read_bytes() == before


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    response = np.zeros(4000, np.float32)
    response[[100, 900]] = 0.8, 0.4
    hiss = 0.1 * np.random.default_rng(0).standard_normal(3000).astype(np.float32)
    return NoiseBank(write_tar(tmp_path_factory.mktemp("noise") / "n.tar", [("noise/a.flac", hiss, 16000), ("rir-1/b.flac", response, 16000)]))


def test_noise_is_mixed_at_5_to_30_db(bank):
    wave = torch.from_numpy(buzz(0.5, 200))
    waves, lengths = torch.stack([wave] * 40), torch.full((40,), 6000)
    waves[:, 6000:] = 0
    assert (len(bank.lengths), len(bank.rooms)) == (1, 1)
    degraded = bank.degrade(waves, lengths, seeded(0), room=0, noise=1)
    assert not degraded[:, 6000:].any()
    added = (degraded - waves)[:, :6000]
    ratio = 10 * torch.log10(waves[:, :6000].square().mean(1) / added.square().mean(1))
    assert 4.9 <= ratio.min() < 10 < 25 < ratio.max() <= 30.1
    assert (added[0] / added[0].norm() - added[1] / added[1].norm()).norm() > 0.5  # each row has its own piece of the clip
    assert torch.equal(bank.degrade(waves, lengths, seeded(0), room=0, noise=0), waves)


def test_short_noise_goes_on_from_its_start(bank):
    tiled = bank._tiled(torch.tensor([0]), torch.tensor([2990]), 3020)
    assert torch.equal(tiled[0], torch.cat([bank.noises[2990:], bank.noises, bank.noises[:10]]))


def test_a_room_adds_its_echo_without_delay(bank):
    pulse = torch.zeros(2, 2000)
    pulse[:, 0] = 1
    echoed = bank.degrade(pulse, torch.tensor([2000, 500]), seeded(0), room=1, noise=0)
    assert (echoed[0].abs() > 0.1).nonzero()[:, 0].tolist() == [0, 800]
    assert echoed[0].square().sum() == pytest.approx(1, rel=1e-4)
    assert (echoed[1].abs() > 0.1).nonzero()[:, 0].tolist() == [0]


def test_about_the_asked_for_share_of_utterances_is_degraded(bank):
    waves = torch.from_numpy(buzz(0.05, 200)).expand(2000, -1)
    lengths = torch.full((2000,), waves.shape[1])
    changed = (bank.degrade(waves, lengths, seeded(0), room=0.15, noise=0.0) != waves).any(1).float().mean()
    assert changed == pytest.approx(0.15, abs=0.03)
    changed = (bank.degrade(waves, lengths, seeded(0), room=0.0, noise=0.35) != waves).any(1).float().mean()
    assert changed == pytest.approx(0.35, abs=0.03)


def test_noise_is_the_same_for_the_same_seed(pool, bank):
    crops, audio = [Crop(u, 0, u.samples) for u in pool.utterances], AudioStore(pool)
    one, two, other = (collate(audio, crops, 640, bank, seeded(seed)).degraded for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_an_archive_without_clips_is_refused(tmp_path):
    with pytest.raises(TrainError, match="neither noise nor room responses"):
        NoiseBank(write_tar(tmp_path / "empty.tar", []))


def test_stretch_moves_a_tone():
    spectrum = torch.zeros(2, 1, 321)
    spectrum[:, :, 80] = 1
    assert stretch(spectrum, torch.tensor([1.5, 0.5])).argmax(-1).flatten().tolist() == [120, 40]
    assert torch.equal(stretch(spectrum, torch.ones(2)), spectrum)


def test_the_envelope_is_smooth_and_follows_the_formants():
    bins = torch.arange(321)
    formants = 2 * torch.exp(-(((bins - 100) / 60) ** 2))
    ripple = torch.cos(2 * torch.pi * bins / 4)  # 160 samples of quefrency
    smooth = envelope((formants + ripple)[None, None])[0, 0]
    assert (smooth - formants)[5:-5].abs().max() < 0.05


def test_probability_zero_is_the_identity():
    magnitudes = torch.rand(3, 5, 321)
    settings = Perturbation(probability=0.0, low_pass=1.0)
    assert (perturb(magnitudes, settings, torch.Generator().manual_seed(0)) - magnitudes).abs().max() < 1e-3


def test_perturbation_repeats_and_moves_each_row_its_own_way():
    magnitudes = torch.rand(1, 5, 321).expand(3, -1, -1)
    one, two = (perturb(magnitudes, Perturbation(probability=1.0), torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(one, two)
    assert (one > 0).all()
    assert (one[0] - one[1]).abs().max() > 0.1


def test_pitch_is_tracked(pool, tmp_path):
    compute_pitch(pool, tmp_path)
    held = PitchCache(tmp_path, pool)
    utterance = pool.utterances[10]  # a buzz of 300 Hz
    frames = -(-utterance.samples // 320)
    raw = np.fromfile(tmp_path / "f0.f16", np.float16)[held.offsets[utterance.path] :][:frames].astype(np.float32)
    voiced = raw > 0
    assert np.exp(np.median(raw[voiced])) == pytest.approx(300, rel=0.02)
    cut = held.crop([Crop(utterance, 0, utterance.samples), Crop(utterance, 640, 640)], frames + 3)
    assert cut[0, :frames].isfinite().tolist() == voiced.tolist()
    assert np.array_equal(cut[0, :frames][voiced], raw[voiced])
    assert cut[0, frames:].isnan().all()
    assert torch.equal(cut[1, :2].nan_to_num(), cut[0, 2:4].nan_to_num())
    assert cut[1, 2:].isnan().all()


def test_pitch_of_another_pool_is_refused(pool, tmp_path):
    make_pitch(make_pool(tmp_path / "other", 1, 1), tmp_path / "pitch")
    with pytest.raises(TrainError, match="was made of another pool"):
        PitchCache(tmp_path / "pitch", pool)
    with pytest.raises(TrainError, match="make it with: unitoken train pitch"):
        PitchCache(tmp_path, pool)

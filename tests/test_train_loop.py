"""The loop that all stages run in: clock, log, averages, checkpoints."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from trainset import RUN, count_steps, log_of
from unitoken.errors import TrainError
from unitoken.train.loop import adamw, descend, run_loop
from unitoken.train.run import Clock, Log, WeightAverage, load_checkpoint, save_checkpoint


def test_the_log_says_how_much_memory_there_was(tmp_path):
    """In a process of its own: what a process took at most is never forgotten."""
    code = f"""
import torch
from pathlib import Path
from unitoken.train.run import Log

log = Log(Path({str(tmp_path / "log.csv")!r}))
for size in (1, 200_000_000):
    log.add({{"loss": float(torch.ones(size, dtype=torch.uint8)[0])}})
    log.write(size, 1e-3)
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    before, after = (float(row["memory"]) for row in log_of(tmp_path))
    assert before + 0.1 < after < before + 0.4


def test_the_learning_rate_rises_and_falls(monkeypatch):
    clock = Clock(replace(RUN, learning_rate=1.0, warmup=4, cooldown=0.5))
    shares = iter([0.0, 0.0, 0.5, 0.75, 1.0])
    monkeypatch.setattr(Clock, "share", lambda self, number: next(shares))
    assert [clock.learning_rate(step) for step in (0, 3, 4, 5, 6)] == [0.25, 1, 1, 0.5, 0.02]


@pytest.mark.parametrize("capability", ["AVX512", "AVX2", "DEFAULT"])
def test_bfloat16_is_for_processors_that_are_made_for_it(monkeypatch, capability):
    """Elsewhere products in float32 are faster."""
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    cpu = torch.device("cpu")
    assert replace(RUN, autocast=True).in_bfloat16(cpu) == (capability == "AVX512")
    assert not replace(RUN, autocast=False).in_bfloat16(cpu)


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_is_for_gpus_that_have_it(monkeypatch, native):
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    assert replace(RUN, autocast=True).in_bfloat16(torch.device("cuda", 0)) == native


def test_a_run_of_so_many_steps_is_the_same_however_often_it_was_broken_off(tmp_path, monkeypatch):
    """Rates follow the steps of all its parts, and the minutes may end one of these, not the whole."""
    run, rates = replace(RUN, minutes=60.0, steps=10, learning_rate=1.0, warmup=2, cooldown=0.5), dict[str, list[float]]()

    def train(folder, run):
        module, (optimizer,), step = resting(1.0)
        (tmp_path / folder).mkdir(exist_ok=True)

        def noted(number):
            rates.setdefault(folder, []).append(optimizer.param_groups[0]["lr"])
            module(torch.ones(1, 2)).sum().backward()
            optimizer.step()
            return step(number)

        run_loop(tmp_path / folder, module, [optimizer], run, noted)

    train("whole", run)
    assert rates["whole"] == pytest.approx([0.5, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])
    with monkeypatch.context() as patch:
        patch.setattr(Clock, "over", lambda self, number: number >= 7)
        train("parts", run)
    assert len(rates["parts"]) == 7
    train("parts", run)
    train("parts", run)  # nothing is left to do
    assert rates["parts"] == rates["whole"]
    train("late", replace(run, minutes=1e-9))
    assert "late" not in rates


def test_a_resumed_optimizer_is_not_warmed_up_again(tmp_path, monkeypatch):
    """One whose state stayed behind is; a scale of this run's optimizer counts, not that of the checkpoint's."""
    module, _, step = resting(1.0)
    run, seen = replace(RUN, learning_rate=1.0, warmup=100), []

    def optimizers(scale):
        module(torch.ones(1, 2)).sum().backward()
        made = [torch.optim.AdamW(module.parameters()), torch.optim.AdamW(module.parameters())]
        made[1].param_groups[0]["scale"] = scale
        return made

    def taken(number, made):
        for optimizer in made:
            optimizer.step()
        seen.append([optimizer.param_groups[0]["lr"] for optimizer in made])
        return step(number)

    for scale in (0.5, 0.25):
        made = optimizers(scale)
        count_steps(monkeypatch, 10)
        run_loop(tmp_path, module, made, run, lambda number, made=made: taken(number, made))
    (tmp_path / "optimizer.pt").unlink()
    made = optimizers(1.0)
    count_steps(monkeypatch, 1)
    run_loop(tmp_path, module, made, run, lambda number: taken(number, made))
    assert seen[9] == pytest.approx([0.1, 0.05])
    assert seen[10] == pytest.approx([0.11, 0.0275])
    assert seen[20] == pytest.approx([0.01, 0.01])


def test_a_log_keeps_its_columns(tmp_path, capsys):
    log = Log(tmp_path / "log.csv")
    log.add({"loss": 1.0})
    log.add({"loss": torch.tensor(2.0)})
    log.write(2, 1e-3)
    assert "loss 1.5" in capsys.readouterr().out
    other = Log(tmp_path / "log.csv")
    other.add({"mel": 1.0})
    with pytest.raises(TrainError, match="choose another folder"):
        other.write(3, 1e-3)


def test_averaged_weights_follow():
    module = torch.nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(0.0)
    average = WeightAverage(module, 0.5)
    for _ in range(30):
        module.weight.data.fill_(1.0)
        average.update(module)
    assert float(average.state["weight"]) == pytest.approx(1, abs=1e-6)


def test_averages_of_whole_numbers_are_the_last_value():
    module = torch.nn.BatchNorm1d(2)
    average = WeightAverage(module, 0.5)
    module.num_batches_tracked.fill_(7)
    module.running_mean.fill_(1.0)
    average.update(module)
    assert average.state["num_batches_tracked"].item() == 7
    assert average.state["running_mean"].tolist() == pytest.approx([1 - 2 / 11] * 2)


def resting(value):
    """A module and optimizer, and a step that changes nothing and tells of a loss."""
    module = torch.nn.Linear(2, 2)
    return module, [torch.optim.AdamW(module.parameters())], lambda number: ({"loss": torch.tensor(value if number == 3 else 1.0)}, torch.tensor(2.0))


def test_a_loss_that_nobody_looked_at_stops_the_run_before_anything_is_written(tmp_path, monkeypatch):
    """On a GPU only the log looks at the loss, every few steps."""
    count_steps(monkeypatch, 4)
    module, optimizers, step = resting(float("nan"))
    with pytest.raises(TrainError, match="loss is nan at step 4; lower"):
        run_loop(tmp_path, module, optimizers, replace(RUN, log_steps=5), step)
    count_steps(monkeypatch, 9)
    with pytest.raises(TrainError, match="loss is inf at step 5; lower"):
        run_loop(tmp_path, module, optimizers, replace(RUN, log_steps=5), resting(float("inf"))[2])
    count_steps(monkeypatch, 9)
    with pytest.raises(TrainError, match="loss is nan at step 4; lower"):
        run_loop(tmp_path, module, optimizers, replace(RUN, log_steps=8, save_minutes=0), step)
    assert json.loads((tmp_path / "step.json").read_text())["step"] == 3


def test_the_log_has_the_audio_of_all_steps(tmp_path, monkeypatch):
    count_steps(monkeypatch, 10)
    times = iter(range(0, 1000, 10))
    monkeypatch.setattr("unitoken.train.run.time.monotonic", lambda: next(times))
    module, optimizers, step = resting(1.0)
    run_loop(tmp_path, module, optimizers, replace(RUN, save_minutes=1e9), step)
    first, second = (float(row["rate"]) for row in log_of(tmp_path))
    assert 0 < second <= first <= 1  # 5 steps of 2 s in ever more tens of seconds


def test_an_optimizer_state_of_another_device_is_taken_over_without_its_arithmetic(tmp_path):
    module = torch.nn.Linear(2, 2)
    theirs = torch.optim.AdamW(module.parameters(), lr=1e-3, fused=True)
    module(torch.ones(1, 2)).sum().backward()
    theirs.step()
    save_checkpoint(tmp_path, module, WeightAverage(module, 0.5), [theirs], 1)
    ours = adamw(module.parameters(), 1e-3, (0.9, 0.99), torch.device("cpu"))
    load_checkpoint(tmp_path, module, WeightAverage(module, 0.5), [ours])
    assert ours.param_groups[0]["fused"] is None
    assert torch.equal(ours.state[module.weight]["exp_avg"], theirs.state[module.weight]["exp_avg"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_stops_the_run_and_moves_no_weight(value):
    """The loss itself is fine: only its gradient is not."""
    module = torch.nn.Linear(2, 2)
    before = module.weight.detach().clone()
    loss = module(torch.ones(1, 2)).sum()
    loss.register_hook(lambda gradient: gradient * value)
    with pytest.raises(TrainError, match=f"gradient is {value} at step 7; lower the learning rate"):
        descend(torch.optim.AdamW(module.parameters()), loss, 7)
    assert torch.equal(module.weight, before)


def test_only_what_is_trained_is_clipped():
    """Heads beside it that nobody trains gather gradients, and may not take the trained part's share of the norm."""
    module = torch.nn.ModuleDict({"trained": torch.nn.Linear(2, 1), "beside": torch.nn.Linear(2, 1)})
    optimizer = torch.optim.SGD(module["trained"].parameters(), lr=1.0)
    for step in range(2):
        loss = 0.1 * module["trained"](torch.ones(1, 2)).sum() + 1e6 * module["beside"](torch.ones(1, 2)).sum()
        norm = descend(optimizer, loss, step)
        assert float(norm) == pytest.approx(0.1 * 3**0.5)

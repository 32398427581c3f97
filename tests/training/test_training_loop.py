"""The training loop: it learns, resumes bit for bit, keeps its time and says what went wrong."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from featherweight.data.augmentation import Augmentation, normalise_batch
from featherweight.data.metrics import balanced_weights
from featherweight.errors import (
    DataError,
    DivergedError,
    FailedError,
    RunDirectoryError,
    UsageError,
)
from featherweight.journal import Journal
from featherweight.nn.network import build_network
from featherweight.training import averaging as averaging_module
from featherweight.training import length as length_module
from featherweight.training import loop as loop_module
from featherweight.training import session as session_module
from featherweight.training import step as step_module
from featherweight.training.checkpoint import CHECKPOINT
from featherweight.training.compute import Compute
from featherweight.training.evaluate import TrainingImages, evaluate_network
from featherweight.training.loop import train_network
from featherweight.training.objective import OBJECTIVES
from featherweight.training.recipe import Recipe
from featherweight.training.results import EpochRecord, best_epoch
from featherweight.training.session import JOURNAL
from featherweight.training.speed import SpeedChoice
from featherweight.training.step import Learner, create_learner

SHIFT = Augmentation(translate_px=1)
BASE = Recipe(epochs=2, batch_size=64, learning_rate=0.1, augmentation=SHIFT, seed=3)


@pytest.fixture
def part(digits):
    """A part of the digits with a rest that no batch of 64 takes."""
    train, val = digits
    return (
        TrainingImages(train.pixels[:321], train.targets[:321]),
        TrainingImages(val.pixels[:100], val.targets[:100]),
    )


@pytest.fixture
def run(tiny_architecture, gray, part, tmp_path):
    def train(recipe=BASE, *, directory="run", data=part, network=None, **more):
        return train_network(
            network or build_network(tiny_architecture, seed=1),
            train=data[0],
            val=data[1],
            recipe=recipe,
            preprocessing=gray,
            directory=tmp_path / directory,
            device="cpu",
            **more,
        )

    return train


@pytest.fixture
def real_choice():
    """`choose_compute` itself, for the tests that want it timed."""
    return session_module.choose_compute


@pytest.fixture(autouse=True)
def fixed_compute(monkeypatch, real_choice):
    """Bit-equality holds within one form of computing; timing it would also take time."""

    def fix(memory_format):
        compute = Compute(torch.device("cpu"), memory_format=memory_format)
        monkeypatch.setattr(
            session_module, "choose_compute", lambda *_, **__: SpeedChoice(compute, {})
        )

    fix("contiguous")
    return fix


def _equal(first, second):
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns_digits(tiny_architecture, gray, digits, tmp_path):
    train, val = digits
    epochs = []
    result = train_network(
        build_network(tiny_architecture, seed=0),
        train=train,
        val=val,
        recipe=Recipe(epochs=8, batch_size=32, learning_rate=0.2, augmentation=SHIFT, seed=0),
        preprocessing=gray,
        directory=tmp_path,
        device="cpu",
        progress=epochs.append,
    )
    answer = evaluate_network(result.network, images=val, preprocessing=gray, device="cpu")
    assert answer.accuracy > 0.95
    assert answer.accuracy == result.best.val_accuracy
    assert answer.loss == pytest.approx(result.best.val_loss, rel=1e-5)
    assert answer.losses.shape == answer.scores.shape == (400,)
    assert answer.details["top5"] >= answer.accuracy
    assert tuple(epochs) == result.history
    assert result.best == best_epoch(result.history, pictures=len(val))
    assert result.history[-1].images_seen == 8 * (len(train) // 32) * 32


def test_a_training_without_hope_ends_early(run):
    four = BASE.model_copy(update={"epochs": 4})
    whole = run(four, directory="whole", floor=((0.3, 0.0), (1.0, 1.1)))
    assert ([e.share for e in whole.history], whole.stopped) == ([0.25, 0.5, 0.75, 1.0], "finished")
    for _ in range(2):  # over is over
        ended = run(four, directory="ended", floor=((0.3, 0.0), (0.6, 1.1)))
        assert (ended.stopped, len(ended.history)) == ("hopeless", 3)


@pytest.mark.parametrize("kept", [False, True])
def test_norms_keep_their_statistics_where_the_recipe_says_so(run, tiny_architecture, kept):
    start = build_network(tiny_architecture, seed=1)
    result = run(BASE.model_copy(update={"keep_norm_statistics": kept}), network=start)
    before, after = start.state_dict(), result.network.state_dict()
    statistics = [name for name in before if name.endswith(("running_mean", "running_var"))]
    learnt = [name for name in before if name.endswith(("norm.weight", "norm.bias"))]
    assert statistics
    assert learnt
    assert all(torch.equal(before[name], after[name]) is kept for name in statistics)
    assert not any(torch.equal(before[name], after[name]) for name in learnt)


def test_frozen_blocks_keep_their_weights(run, tiny_architecture):
    start = build_network(tiny_architecture, seed=1)
    frozen = BASE.model_copy(update={"keep_norm_statistics": True, "frozen_blocks": 2})
    before, after = start.state_dict(), run(frozen, network=start).network.state_dict()
    assert len(tiny_architecture.blocks) > 2
    for name in before:
        kept = name.startswith(("blocks.0.", "blocks.1.")) or "running" in name or "num_b" in name
        assert torch.equal(before[name], after[name]) is kept, name


def test_more_frozen_blocks_than_there_are_and_learning_norms_are_refused(run, tiny_architecture):
    most = len(tiny_architecture.blocks)
    wrong = BASE.model_copy(update={"keep_norm_statistics": True, "frozen_blocks": most + 1})
    with pytest.raises(UsageError, match=f"allowed: 0 to {most}"):
        run(wrong)
    with pytest.raises(ValueError, match="frozen_blocks needs keep_norm_statistics"):
        Recipe(epochs=1, frozen_blocks=1)


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_resume_is_bit_equal(run, fixed_compute, monkeypatch, optimizer, memory_format):
    fixed_compute(memory_format)
    recipe = BASE.model_copy(update={"optimizer": optimizer, "epochs": 3, "learning_rate": 0.01})
    straight = run(recipe, directory="straight")

    class Stop(Exception):
        pass

    def stop_after_first(record):
        raise Stop

    for _ in range(2):  # two interruptions
        with pytest.raises(Stop):
            run(recipe, directory="torn", progress=stop_after_first)
    torch.rand(7)  # the state of torch's own generator must not matter
    resumed = run(recipe, directory="torn")
    assert _equal(straight.network, resumed.network)
    for a, b in zip(straight.history, resumed.history, strict=True):
        assert (a.train_loss, a.val_loss, a.images_seen) == (
            b.train_loss,
            b.val_loss,
            b.images_seen,
        )


def test_a_finished_training_is_not_repeated(run, tmp_path):
    first = run()
    before = (tmp_path / "run" / CHECKPOINT).read_bytes()
    again = run(progress=lambda record: pytest.fail("trained again"))
    assert _equal(first.network, again.network)
    assert first.history == again.history
    assert (tmp_path / "run" / CHECKPOINT).read_bytes() == before


@pytest.mark.parametrize(
    ("accuracies", "pictures", "kept"),
    [
        ((0.60, 0.80, 0.82), 300, 3),
        ((0.60, 0.80, 0.76), 300, 3),  # by chance
        ((0.60, 0.80, 0.76), 10_000, 2),
        ((0.80, 0.75, 0.70), 300, 2),  # no drift: the peak counts
        ((0.90, 0.10, 0.10), 300, 1),
        ((1.00, 0.99), 300, 1),
        ((0.80,), 300, 1),
    ],
)
def test_the_last_epoch_is_kept_unless_an_earlier_is_surely_better(accuracies, pictures, kept):
    history = [
        EpochRecord(
            epoch=epoch,
            images_seen=1,
            seconds=1.0,
            images_per_s=1.0,
            train_loss=1.0,
            val_loss=1.0,
            val_accuracy=accuracy,
            learning_rate=0.1,
            resolution=8,
            memory_format="contiguous",
            dtype="fp32",
            foreign_cpu_share=None,
        )
        for epoch, accuracy in enumerate(accuracies, 1)
    ]
    assert best_epoch(history, pictures=pictures).epoch == kept


def test_best_epoch_survives_a_resume(run, monkeypatch):
    """The best weights are not the newest: the checkpoint must hold both."""
    monkeypatch.setattr(session_module, "best_epoch", lambda history, **_: history[:2][-1])
    recipe = BASE.model_copy(update={"epochs": 4})
    straight = run(recipe, directory="straight")
    assert straight.best.epoch == 2
    assert not _equal(straight.network, run(BASE, directory="short").network), "another decay"

    def interrupt(record):
        if record.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(recipe, directory="torn", progress=interrupt)
    assert _equal(run(recipe, directory="torn").network, straight.network)


def test_an_interrupt_within_an_epoch_leaves_the_last_one(run, monkeypatch):
    real = step_module.Learner.step

    def interrupted(self, *values, **more):
        if self.average.num_updates == 7:  # 5 steps are an epoch
            raise KeyboardInterrupt
        return real(self, *values, **more)

    monkeypatch.setattr(step_module.Learner, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.undo()
    seen = []
    result = run(progress=seen.append)
    assert [record.epoch for record in seen] == [2]
    assert [record.epoch for record in result.history] == [1, 2]


def test_caller_and_torch_stay_as_they_were(run, tiny_architecture):
    network = build_network(tiny_architecture, seed=1)
    reference = build_network(tiny_architecture, seed=1)
    generator, threads = torch.get_rng_state(), torch.get_num_threads()
    result = run(network=network)
    assert _equal(network, reference)
    assert network.training
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.get_num_threads() == threads
    assert not _equal(result.network, reference)


def test_the_journal_tells_the_story(run, tmp_path, monkeypatch, real_choice):
    monkeypatch.setattr(session_module, "choose_compute", real_choice)
    result = run()
    lines = Journal(tmp_path / "run" / JOURNAL).read()
    assert [line["event"] for line in lines] == ["start", "speed", "plan", "epoch", "epoch", "end"]
    speed = lines[1]
    assert len(speed["images_per_s"]) == 3
    assert speed["images_per_s"]["contiguous/fp32"] > 0
    fastest = max(speed["images_per_s"].items(), key=lambda item: item[1] or 0)
    chosen = f"{speed['memory_format']}/{speed['dtype']}"
    assert speed["images_per_s"][chosen] >= 0.96 * fastest[1]
    assert [line["val_loss"] for line in lines[3:5]] == [r.val_loss for r in result.history]


def test_a_loss_that_is_not_finite_twice_stops_the_training(run):
    wild = BASE.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(
        FailedError, match=r"epoch 1, step \d+, at learning rate 3\.33e\+29"
    ) as caught:
        run(wild)
    assert "learning rate" in caught.value.hint


def test_time_is_kept_and_used(run, tmp_path, monkeypatch):
    monkeypatch.setattr(loop_module, "_TICK_S", 0.05)
    start = time.perf_counter()
    ticks = []
    result = run(Recipe(time_s=3.0, batch_size=64, learning_rate=0.05), tick=ticks.append)
    wall_s = time.perf_counter() - start
    assert 1.0 < wall_s < 4.0
    assert result.seconds == pytest.approx(wall_s, abs=0.5)
    plan = next(
        line for line in Journal(tmp_path / "run" / JOURNAL).read() if line["event"] == "plan"
    )
    assert plan["total_steps"] > 10
    assert result.stopped == "deadline"
    assert result.history[-1].learning_rate < 0.01, "the schedule ended with the time"
    assert [tick.step for tick in ticks] == sorted(tick.step for tick in ticks)
    assert 0 < ticks[0].seconds_left < 30
    assert ticks[0].images_per_s > 0


@pytest.mark.parametrize("steps", [3, 1_000_000])
def test_time_is_used_whatever_speed_was_expected(run, monkeypatch, steps):
    """A plan of a slow moment does not end the training early, nor one of a fast moment late."""
    real = length_module.plan_time

    def wrong(*values, **more):
        plan = real(*values, **more)
        clock = ((0.0, 0), (1.0, steps))
        return plan.model_copy(update={"total_steps": steps, "low_steps": 0, "clock": clock})

    monkeypatch.setattr(length_module, "plan_time", wrong)
    start = time.perf_counter()
    result = run(Recipe(time_s=2.0, batch_size=64, learning_rate=0.05))
    assert 1.5 < time.perf_counter() - start < 3.0
    assert result.stopped == "deadline"
    assert result.history[-1].learning_rate < 0.02
    assert result.best in result.history


def test_time_that_is_gone_is_not_used_again(run):
    start = time.perf_counter()
    result = run(Recipe(time_s=9.0, batch_size=64, learning_rate=0.05), spent_s=8.0)
    assert time.perf_counter() - start < 2.5
    assert result.stopped == "deadline"


def test_a_known_speed_is_not_timed_again(run, tmp_path, monkeypatch):
    monkeypatch.setattr(length_module, "_time_steps", None)
    run(Recipe(time_s=1.0, batch_size=64, learning_rate=0.05), images_per_s=640.0)
    plan = next(
        line for line in Journal(tmp_path / "run" / JOURNAL).read() if line["event"] == "plan"
    )
    assert 1 <= plan["total_steps"] <= 10


def test_frozen_epochs_change_only_the_classifier(run, tiny_architecture):
    result = run(BASE.model_copy(update={"freeze_epochs": 2, "ema_decay": 0.0}))
    before = build_network(tiny_architecture, seed=1).state_dict()
    for name, tensor in result.network.state_dict().items():
        changed = not torch.equal(tensor, before[name])
        assert changed == name.startswith("classifier."), name


def test_low_resolution_then_full(run):
    result = run(
        BASE.model_copy(update={"epochs": 2, "low_resolution": 8, "low_resolution_share": 0.5})
    )
    assert [record.resolution for record in result.history] == [8, 16]


def test_every_step_takes_pictures_of_a_drawn_size(run, monkeypatch):
    sides = []
    step = Learner.step

    def seen(learner, sample, *, size, **more):
        sides.append(size)
        return step(learner, sample, size=size, **more)

    monkeypatch.setattr(Learner, "step", seen)
    result = run(BASE.model_copy(update={"epochs": 4, "resolution_scales": (0.5, 1.0)}))
    assert set(sides) == {8, 16}
    assert {record.resolution for record in result.history} == {16}, "where it is judged"


def test_a_student_follows_its_teacher_and_not_the_labels(
    run, tiny_architecture, gray, digits, tmp_path
):
    """Labels are wrong on purpose; the teacher, at another resolution, knows better."""
    train, val = digits
    quick = {"epochs": 5, "batch_size": 32, "learning_rate": 0.2}
    teacher = run(BASE.model_copy(update=quick), directory="teacher", data=digits).network
    small = tiny_architecture.at_resolution(8)
    shrunk = TrainingImages(train.pixels[:, ::2, ::2], (train.targets + 1) % 10)
    held = TrainingImages(val.pixels[:, ::2, ::2], val.targets)
    result = run(
        BASE.model_copy(
            update={**quick, "distillation_weight": 1.0, "augmentation": Augmentation()}
        ),
        directory="student",
        network=build_network(small, seed=0),
        data=(shrunk, held),
        teacher=teacher,
    )
    # Whoever followed the labels would have none right.
    assert result.best.val_accuracy > 0.6


def test_pictures_are_cut_at_the_size_of_a_larger_teacher(
    run, tiny_architecture, digits, monkeypatch
):
    """The teacher must see what the student's size loses, not an enlargement of it."""
    seen = {"teacher": set(), "student": set()}
    logits, answers = step_module.Teacher.logits, step_module.Learner._answers

    def watch_teacher(self, inputs, **more):
        seen["teacher"].add(tuple(inputs.shape[2:]))
        return logits(self, inputs, **more)

    def watch_student(self, inputs, right):
        seen["student"].add(tuple(inputs.shape[2:]))
        return answers(self, inputs, right)

    monkeypatch.setattr(step_module.Teacher, "logits", watch_teacher)
    monkeypatch.setattr(step_module.Learner, "_answers", watch_student)
    train, val = digits
    result = run(
        BASE.model_copy(update={"epochs": 1, "distillation_weight": 0.5, "mixup": 0.5}),
        network=build_network(tiny_architecture.at_resolution(8), seed=0),
        data=(train, TrainingImages(val.pixels[:, ::2, ::2], val.targets)),
        teacher=build_network(tiny_architecture, seed=1),
    )
    assert seen == {"teacher": {(16, 16)}, "student": {(8, 8)}}
    assert result.history[-1].val_loss > 0


@pytest.mark.parametrize("images", [2, 63, 65])
def test_awkward_numbers_of_images(run, part, images):
    train, val = part
    few = TrainingImages(train.pixels[:images], train.targets[:images])
    result = run(data=(few, val), directory=str(images))
    assert result.history[-1].images_seen == 2 * min(images, 64)


def test_wrong_input_is_named(run, part, tiny_architecture):
    train, val = part
    with pytest.raises(DataError, match="one training picture"):
        run(data=(TrainingImages(train.pixels[:1], train.targets[:1]), val))
    with pytest.raises(DataError, match="labels from 0 to 10"):
        run(data=(TrainingImages(train.pixels, train.targets + train.targets // 9), val))
    with pytest.raises(DataError, match="3 channels"):
        run(data=(TrainingImages(train.pixels.repeat(3, axis=3), train.targets), val))
    with pytest.raises(DataError, match="8 x 8 pixels"):
        run(data=(train, TrainingImages(val.pixels[:, ::2, ::2], val.targets)))
    with pytest.raises(DataError, match="float32"):
        TrainingImages(train.pixels.astype(np.float32), train.targets)
    with pytest.raises(UsageError, match="without a teacher"):
        run(BASE.model_copy(update={"distillation_weight": 0.5}))
    with pytest.raises(UsageError, match="device 'tpu'"):
        evaluate_network(
            build_network(tiny_architecture, seed=0),
            images=val,
            preprocessing=None,
            device="tpu",
        )


def test_another_recipe_does_not_continue_a_training(run):
    run()
    with pytest.raises(RunDirectoryError, match="another training"):
        run(BASE.model_copy(update={"learning_rate": 0.01}))


def _poison(monkeypatch, *, calls):
    """Make the weights NaN in the given steps, counted over all calls from 1."""
    original, seen = step_module.Learner.step, []

    def step(self, *pixels, **more):
        seen.append(1)
        if len(seen) in calls:
            with torch.no_grad():
                for parameter in self.network.parameters():
                    parameter.fill_(float("nan"))
        return original(self, *pixels, **more)

    monkeypatch.setattr(step_module.Learner, "step", step)


def test_a_first_divergence_goes_back_to_the_checkpoint(run, monkeypatch, tmp_path):
    recipe = BASE.model_copy(update={"epochs": 3})
    straight = run(recipe, directory="straight")
    _poison(monkeypatch, calls={8})  # in the second epoch; an epoch has five steps
    result = run(recipe)
    assert [record.epoch for record in result.history] == [1, 2, 3]
    assert result.history[0].train_loss == straight.history[0].train_loss
    for ours, theirs in zip(result.history[1:], straight.history[1:], strict=True):
        assert ours.learning_rate == pytest.approx(theirs.learning_rate / 3)
        assert np.isfinite(ours.val_loss)
    told = [e for e in Journal(tmp_path / "run" / JOURNAL).read() if e["event"] == "rollback"]
    assert [event["step"] for event in told] == [5]
    assert "epoch 2, step 8" in told[0]["reason"]


def test_a_second_divergence_ends_and_can_be_continued(run, monkeypatch, tmp_path):
    recipe = BASE.model_copy(update={"epochs": 3})
    with monkeypatch.context() as patch:
        _poison(patch, calls={8, 11})
        with pytest.raises(DivergedError, match="epoch 2"):
            run(recipe)
    result = run(recipe)  # the mark was written: at a third of the rate, not from the full one
    rates = [record.learning_rate for record in result.history]
    straight = [record.learning_rate for record in run(recipe, directory="straight").history]
    assert rates[0] == straight[0]
    assert rates[1:] == pytest.approx([rate / 3 for rate in straight[1:]])


def test_weights_make_loss_and_accuracy_balanced(tiny_architecture, gray, part):
    _, val = part
    uneven = np.flatnonzero((val.targets != 3) | (np.arange(len(val)) % 4 == 0))
    pixels, labels = val.pixels[uneven], val.targets[uneven]
    network = build_network(tiny_architecture, seed=1)
    plain = evaluate_network(
        network, images=TrainingImages(pixels, labels), preprocessing=gray, device="cpu"
    )
    weighed = evaluate_network(
        network,
        images=TrainingImages(pixels, labels, balanced_weights(labels)),
        preprocessing=gray,
        device="cpu",
    )
    per_class = [plain.losses[labels == k].mean(dtype=np.float64) for k in np.unique(labels)]
    assert weighed.loss == pytest.approx(np.mean(per_class), rel=1e-5)
    assert weighed.losses.mean() == pytest.approx(weighed.loss, rel=1e-5)
    recalls = [plain.scores[labels == k].mean() for k in np.unique(labels)]
    assert weighed.accuracy == pytest.approx(np.mean(recalls))
    assert weighed.accuracy == pytest.approx(weighed.details["balanced_accuracy"])


def test_the_training_loss_weighs_the_classes(tiny_architecture, gray, part):
    train, _ = part
    weights = balanced_weights(train.targets)
    images = TrainingImages(train.pixels, train.targets, weights)
    sample = images.batch(slice(0, 32))
    assert sample.weights is not None
    assert np.allclose(sample.weights.numpy(), weights[:32])
    recipe = Recipe(epochs=1, label_smoothing=0.1)
    learner = create_learner(
        build_network(tiny_architecture.changed(dropout=0.0), seed=1),
        recipe=recipe,
        preprocessing=gray,
        compute=Compute(torch.device("cpu")),
        teacher=None,
        objective=OBJECTIVES["classification"],
    )
    inputs = normalise_batch(sample.pixels, mean=gray.mean, std=gray.std)
    with torch.no_grad():
        log_share = learner.network.train()(inputs).log_softmax(1)
    smooth = 0.9 * torch.nn.functional.one_hot(sample.targets, 10) + 0.01
    expected = (-(smooth * log_share).sum(1) * torch.from_numpy(weights[:32]).float()).mean()
    loss = learner.step(
        sample,
        size=16,
        frozen=False,
        learning_rate=1e-6,
        generator=torch.Generator().manual_seed(0),
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_weights_are_another_training(run, part, tmp_path):
    train, val = part
    run()
    weighed = TrainingImages(train.pixels, train.targets, balanced_weights(train.targets))
    with pytest.raises(RunDirectoryError, match="belongs to another training"):
        run(data=(weighed, val))
    with pytest.raises(DataError, match="weights of shape"):
        TrainingImages(train.pixels, train.targets, np.ones(3))


def test_a_young_average_answers_with_norms_of_its_own(run, digits, monkeypatch):
    """After forty fast steps the averaged norm statistics belong to no network."""
    recipe = BASE.model_copy(update={"epochs": 5, "batch_size": 32, "learning_rate": 0.2})
    settled = run(recipe, directory="settled", data=digits).history
    monkeypatch.setattr(averaging_module, "_YOUNG_UPDATES", 0)
    averaged = run(recipe, directory="averaged", data=digits).history
    assert settled[0].train_loss == averaged[0].train_loss, "the same steps"
    assert settled[0].val_loss < 0.7 * averaged[0].val_loss
    assert settled[0].val_accuracy > averaged[0].val_accuracy + 0.2
    # At the end, with a rate near zero, both are the same network.
    assert settled[-1].val_accuracy == pytest.approx(averaged[-1].val_accuracy, abs=0.03)


def test_an_old_average_is_left_alone(run, monkeypatch):
    monkeypatch.setattr(averaging_module, "_YOUNG_UPDATES", 5)
    asked = []
    monkeypatch.setattr(
        averaging_module.WeightAverage,
        "settle",
        lambda self, batches, *, norms: asked.append(list(batches)),
    )
    run(BASE.model_copy(update={"epochs": 3}))
    assert asked == [], "the first epoch of five steps already is old enough"
    monkeypatch.setattr(averaging_module, "_YOUNG_UPDATES", 6)
    run(BASE.model_copy(update={"epochs": 3}), directory="young")
    assert [tuple(one.shape) for one in asked[0]] == [(64, 1, 16, 16)] * 4

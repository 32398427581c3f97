"""Intervals and counts against independent implementations."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from featherweight.data.metrics import (
    accuracy_interval,
    balanced_accuracy,
    balanced_weights,
    confusion,
)
from featherweight.errors import UsageError


def test_wilson_against_published_values():
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    assert accuracy_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert accuracy_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert accuracy_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert accuracy_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_wilson_covers_as_often_as_it_says(share, confidence):
    correct = np.random.default_rng(0).binomial(400, share, 2000)
    bounds = [accuracy_interval(int(c), 400, confidence=confidence) for c in correct]
    covered = np.mean([low <= share <= high for low, high in bounds])
    assert covered == pytest.approx(confidence, abs=0.035)


def test_the_ends_are_exact():
    assert accuracy_interval(7, 7)[1] == 1.0
    assert accuracy_interval(0, 7)[0] == 0.0


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(correct, n):
    with pytest.raises(UsageError):
        accuracy_interval(correct, n)


def test_confusion_and_balanced_accuracy_are_scikit_learns():
    generator = np.random.default_rng(0)
    labels, predictions = generator.integers(0, 4, 300), generator.integers(0, 5, 300)
    expected = confusion_matrix(labels, predictions, labels=range(5))
    assert (confusion(labels, predictions, 5) == expected).all()
    inside = np.where(predictions == 4, 0, predictions)
    assert balanced_accuracy(labels, inside, 5) == pytest.approx(
        balanced_accuracy_score(labels, inside)
    )


def test_numbers_outside_the_classes_are_refused():
    with pytest.raises(UsageError, match="prediction 3"):
        confusion([0, 1], [0, 3], 3)
    with pytest.raises(UsageError, match="2 labels for 1"):
        confusion([0, 1], [0], 3)
    with pytest.raises(UsageError, match="no labels"):
        balanced_accuracy([], [], 3)


def test_balanced_weights_make_accuracy_balanced():
    """Oracle: scikit-learn's balanced accuracy."""
    generator = np.random.default_rng(0)
    labels = generator.choice(4, size=500, p=[0.7, 0.2, 0.08, 0.02])
    answers = np.where(generator.random(500) < 0.6, labels, generator.integers(0, 4, 500))
    weights = balanced_weights(labels)
    assert weights.mean() == pytest.approx(1.0)
    assert np.mean(weights * (answers == labels)) == pytest.approx(
        balanced_accuracy_score(labels, answers)
    )
    assert balanced_weights([3, 3, 5]).tolist() == pytest.approx([0.75, 0.75, 1.5])

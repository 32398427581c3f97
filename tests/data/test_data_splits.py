"""Splits: stratified, seeded, duplicates together, never an empty class."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featherweight.data.splits import arrange_splits, cut_stratified
from featherweight.errors import DataError

SHARES = {"test": 0.1, "val": 0.1}


def arrange(labels, digests, *, found="all", seed=0):
    return arrange_splits(labels, given=[found] * len(labels), digests=digests, seed=seed)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 40)), min_size=12, max_size=150),
    st.integers(0, 5),
)
def test_duplicates_stay_together_and_no_class_is_left_out(pictures, seed):
    labels = [label for label, _ in pictures] + list("aaabbb")
    # The digest carries the label: the same content under two labels has a test of its own.
    digests = [f"{label}{number}" for label, number in pictures]
    digests += ["a_x", "a_y", "a_z", "b_x", "b_y", "b_z"]
    splits = arrange(labels, digests, seed=seed)
    where = {}
    for digest, split in zip(digests, splits, strict=True):
        assert where.setdefault(digest, split) == split
    assert {(label, split) for label, split in zip(labels, splits, strict=True)} == {
        (label, split) for label in "ab" for split in ("train", "val", "test")
    }


def test_ten_percent_of_every_class_whatever_the_order():
    labels = ["a"] * 200 + ["b"] * 50
    digests = [f"{label}{number}" for number, label in enumerate(labels)]
    splits = arrange(labels, digests)
    assert Counter(zip(labels, splits, strict=True)) == {
        ("a", "train"): 160,
        ("a", "val"): 20,
        ("a", "test"): 20,
        ("b", "train"): 40,
        ("b", "val"): 5,
        ("b", "test"): 5,
    }
    assert arrange(labels[::-1], digests[::-1]) == splits[::-1]
    assert arrange(labels, digests, seed=1) != splits


def test_adding_a_picture_moves_few_others():
    labels = ["a"] * 100 + ["b"] * 100
    digests = [f"{label}{number}" for number, label in enumerate(labels)]
    before = arrange(labels, digests)
    after = arrange([*labels, "a"], [*digests, "new"])
    assert sum(x != y for x, y in zip(before, after, strict=False)) <= 2


def test_one_content_under_two_labels_goes_to_one_split():
    labels = ["a"] * 30 + ["b"] * 30
    digests = [f"a{i}" for i in range(30)] + [f"a{i}" for i in range(15)] + list("pqrstuvwxyzklmn")
    splits = arrange(labels, digests)
    assert splits[:15] == splits[30:45]


def test_a_shared_picture_is_not_taken_away_from_the_first_class():
    labels = ["a"] * 3 + ["b"] * 33
    digests = list("xyz") + list("xyz") + [f"b{i}" for i in range(30)]
    for seed in range(60):
        splits = arrange(labels, digests, seed=seed)
        assert sorted(splits[:3]) == ["test", "train", "val"]
        assert Counter(splits[3:]) == {"train": 27, "val": 3, "test": 3}


def test_a_class_whose_pictures_all_went_elsewhere_is_an_error():
    # Class "b" has only pictures that "a" has too: where "a" tests on all of them none trains "b".
    labels = ["a"] * 30 + ["b"] * 3
    digests = [f"a{i}" for i in range(30)]
    tested = [
        d
        for d, split in zip(digests, arrange(labels, [*digests, *"xyz"]), strict=False)
        if split == "test"
    ]
    assert len(tested) == 3
    with pytest.raises(DataError, match="class 'b' is in test but not in train"):
        arrange(labels, [*digests, *tested])


def test_a_large_group_of_duplicates_does_not_eat_a_split():
    labels = ["a"] * 30 + ["b"] * 30
    digests = ["same"] * 28 + ["a1", "a2"] + [f"b{i}" for i in range(30)]
    for seed in range(10):
        splits = arrange(labels, digests, seed=seed)
        assert splits[0] == "train"
        assert {splits[28], splits[29]} == {"val", "test"}


def test_too_few_different_pictures_name_the_class():
    with pytest.raises(DataError, match="class 'b' has 2 different pictures"):
        arrange(["a"] * 5 + ["b"] * 5, [*"12345", *"66777"])


def test_a_small_class_in_train_cannot_give_to_val():
    labels, found = list("aaaabbb"), ["train"] * 4 + ["train", "test", "test"]
    with pytest.raises(DataError, match="class 'b' has 1 different pictures"):
        arrange_splits(labels, given=found, digests=list("1234567"), seed=0)


def test_given_splits_are_not_touched():
    labels, found = list("aaabbb"), ["train", "val", "test"] * 2
    assert arrange_splits(labels, given=found, digests=["same"] * 6, seed=0) == found


def test_shares_hold_on_average_with_duplicates():
    labels = ["a"] * 100
    digests = [str(i // 2) for i in range(100)]
    counts = Counter(cut_stratified(labels, digests=digests, shares=SHARES, seed=0))
    assert counts == {"train": 80, "val": 10, "test": 10}

"""Test pictures stay out of training, whatever a file or its folder is called."""

import pytest
from parquet_fixture import sizes, write

from featherweight.data.images import load_images
from featherweight.errors import DataError


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("pets_train.parquet", "pets_test.parquet"),
        ("default/train/0000.parquet", "default/test/0000.parquet"),
        ("data/train/0.parquet", "data/test/0.parquet"),
        ("train/0.parquet", "test/0.parquet"),
        ("sole/data/train-00000-of-00001.parquet", "sole/data/test-00000-of-00001.parquet"),
        ("sole/train/0.parquet", "sole/test/0.parquet"),
        ("partial-train/0000.parquet", "partial-test/0000.parquet"),
        ("cifar10-train.parquet", "cifar10.test.parquet"),
        ("PetsTrain.parquet", "PetsTest.parquet"),
        ("TRAIN.PARQUET", "TEST-1.PARQUET"),
        ("trainset.parquet", "testset.parquet"),
        ("pets training.parquet", "pets testing.parquet"),
        ("trainimages.parquet", "testimages.parquet"),
        ("mnist2train0.parquet", "mnist2test0.parquet"),
        ("train.parquet", "eval.parquet"),
        ("data/a/train.parquet", "data/a/test.parquet"),
    ],
)
def test_names_of_files_and_folders_say_the_split(tmp_path, train, test):
    write(tmp_path / train, [0, 1] * 10)
    write(tmp_path / test, [0, 1] * 6, start=20)
    assert sizes(load_images(tmp_path)) == {"train": 18, "val": 2, "test": 12}


@pytest.mark.parametrize("name", ["contest.parquet", "latest-0.parquet", "constrain.parquet"])
def test_a_split_is_a_word_of_its_own(tmp_path, name):
    write(tmp_path / name, [0, 1] * 10)
    assert sizes(load_images(tmp_path)) == {"train": 16, "val": 2, "test": 2}


def test_the_file_says_more_than_its_folder(tmp_path):
    write(tmp_path / "train" / "pets-train.parquet", [0, 1] * 10)
    write(tmp_path / "train" / "pets-validation.parquet", [0, 1] * 3, start=20)
    write(tmp_path / "test" / "pets.parquet", [0, 1] * 4, start=30)
    assert sizes(load_images(tmp_path)) == {"train": 20, "val": 6, "test": 8}


def test_eval_beside_a_test_is_val(tmp_path):
    for start, split in ((0, "train"), (20, "eval"), (40, "test")):
        write(tmp_path / split / "0.parquet", [0, 1] * (10 - start // 10), start=start)
    assert sizes(load_images(tmp_path)) == {"train": 20, "val": 16, "test": 12}


def test_a_name_of_two_splits_is_refused(tmp_path):
    write(tmp_path / "train_and_test.parquet", [0, 1] * 10)
    with pytest.raises(DataError, match=r"splits test and train") as caught:
        load_images(tmp_path)
    assert caught.value.allowed

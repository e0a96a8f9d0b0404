import logging
import re

import numpy as np
import pandas as pd
import pytest

from milpath.data.splits.split_file import read_split

IDS = np.array(["a", "b", "c"])


def write(path, text):
    path.write_text(text)
    return path


def test_a_file_gives_each_bag_its_split_whatever_the_order(tmp_path):
    path = write(tmp_path / "splits.csv", "id,split,label\nc,test,0\na,train,1\nb,val,0\n")
    assert read_split(path, IDS).tolist() == ["train", "val", "test"]


def test_one_fold_of_several_is_read(tmp_path):
    path = write(
        tmp_path / "s.csv", "image_id,split,fold\na,train,0\nb,test,0\nc,test,0\na,test,1\nb,train,1\nc,train,1\n"
    )
    assert read_split(path, IDS, fold=1).tolist() == ["test", "train", "train"]
    with pytest.raises(ValueError, match=r"has no rows of fold 2; it has the folds 0, 1$"):
        read_split(path, IDS, fold=2)


def test_bags_that_a_file_does_not_name_are_counted_and_not_used(tmp_path, caplog):
    path = write(tmp_path / "splits.csv", "id,split\na,train\n")
    with caplog.at_level(logging.WARNING):
        assert read_split(path, IDS).tolist() == ["train", "", ""]
    assert caplog.messages == [f"{path} does not name 2 of 3 bags: they are not used"]


def test_excluded_bags_may_be_in_the_file(tmp_path):
    path = write(tmp_path / "splits.csv", "id,split\na,train\nb,val\nc,test\nx,test\n")
    assert read_split(path, IDS, known={"x"}).tolist() == ["train", "val", "test"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,split\nx,train\ny,test\na,val\n",
         "2 of 3 bags in {path} are not in the data (first: 'x', ...); the file belongs to another data set"),
        ("id,split\na,training\n", "{path} has the split 'training'; a split is one of train, val, test"),
        ("id,split\na,train\na,test\n", "{path} names 'a' more than once; a file of several folds needs the column 'fold'"),
        ("id,part\na,train\n", "{path} has no column 'split'; it has id, part"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_one_line(tmp_path, text, message):
    path = write(tmp_path / "splits.csv", text)
    with pytest.raises(ValueError, match=f"^{re.escape(message.format(path=path))}$"):
        read_split(path, IDS)


def test_a_split_file_survives_identifiers_that_look_like_numbers(tmp_path):
    pd.DataFrame({"id": ["007", "7"], "split": ["train", "test"]}).to_csv(tmp_path / "s.csv", index=False)
    assert read_split(tmp_path / "s.csv", np.array(["7", "007"])).tolist() == ["test", "train"]

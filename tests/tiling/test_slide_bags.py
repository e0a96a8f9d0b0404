import errno
import hashlib
import json
import os
import resource
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.records.label_table import find_column
from milpath.slides.cut_slide import cut_slide
from milpath.slides.tiling_options import TileOptions
from milpath.tiling import slide_append, slide_bags, slide_output
from milpath.tiling.slide_bags import build_slide_store
from milpath.tiling.slide_run import require_complete_store
from tests.pyramids import level2, tissue, write_pyramid

OPTIONS = TileOptions(tile_size=32, num_tiles=4)
NAMES = [f"slide {letter}" for letter in "fbdace"]
STORE_FILES = (
    "tiles.npy",
    "bags.csv",
    "tiles.csv",
    "quality.csv",
    "store.json",
    "failures.csv",
    "overview/sheet_0001.jpg",
)


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides") / "Präparate, 2020"
    for seed, name in enumerate(NAMES):
        write_pyramid(folder / f"{name}.tiff", tissue(100 + seed, 90, seed))
    return folder


@pytest.fixture(scope="module")
def labels(slides):
    path = slides.parent / "train.csv"
    rows = [f"{name},radboud,{number},007" for number, name in enumerate(NAMES)]
    path.write_text("image_id,data_provider,isup_grade,code\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def reference(slides, labels, tmp_path_factory):
    """The store of one run with one process."""
    output = tmp_path_factory.mktemp("reference") / "out"
    summary = build_slide_store(slides, output, OPTIONS, labels=labels, num_workers=1)
    assert (summary.num_cut, summary.num_before, summary.has_store, dict(summary.failures)) == (6, 0, True, {})
    return output


def content(output):
    """Return every file of an output, none of which may be missing or left over.

    That a store was verified is remembered beside it if two seconds have passed since it was written.
    """
    files = (path for path in output.rglob("*") if path.is_file() and path.name != ".verified.json")
    found = {str(path.relative_to(output)): path.read_bytes() for path in files}
    assert set(found) == set(STORE_FILES)
    return found


def test_the_store_holds_every_slide_as_it_is_cut_alone(slides, reference):
    store = BagStore.open(reference)
    store.verify()
    assert store.bags["bag_id"].tolist() == sorted(NAMES)
    for index, name in enumerate(sorted(NAMES)):
        bag = cut_slide(slides / f"{name}.tiff", OPTIONS)
        np.testing.assert_array_equal(store.tiles[store.tile_slice(index)], bag.pixels)
        rows = store.tiles_table.iloc[store.tile_slice(index)]
        assert rows["x"].tolist() == bag.places.x.tolist()
        assert rows["y"].tolist() == bag.places.y.tolist()
        assert set(rows["level"]) == {2}
    assert store.description["tiling"] == OPTIONS.to_tiling()
    assert store.description["microns_per_pixel"] == pytest.approx(2.0)
    assert store.description["downsample"] == 4.0
    assert not (reference / "parts").exists()


def test_labels_stand_in_the_store_letter_by_letter(reference, labels):
    bags = pd.read_csv(reference / "bags.csv", dtype=str)
    wanted = pd.read_csv(labels, dtype=str).sort_values("image_id")
    for column in ("isup_grade", "data_provider", "code"):
        assert bags[column].tolist() == wanted[column].tolist()
    assert bags["slide_file"].tolist() == [f"{name}.tiff" for name in sorted(NAMES)]
    assert set(bags["downsample"]) == {"4.0"}


def test_the_files_are_those_that_the_store_writer_writes(reference, tmp_path):
    store = BagStore.open(reference)
    with BagStoreWriter(tmp_path / "other") as writer:
        for index, row in enumerate(store.bags.to_dict("records")):
            where = store.tile_slice(index)
            columns = {
                name: store.tiles_table[name].to_numpy()[where] for name in ("x", "y", "level", "x0", "y0", "size0")
            }
            writer.add(row["bag_id"], store.tiles[where], {}, columns)
    for name in ("tiles.npy", "tiles.csv"):
        assert (reference / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    written = json.loads((tmp_path / "other/store.json").read_text())
    assert set(written) - set(json.loads((reference / "store.json").read_text())) <= {"created"}


@pytest.mark.slow
def test_processes_and_shards_do_not_change_a_byte(slides, labels, reference, tmp_path):
    summary = build_slide_store(slides, tmp_path / "two", OPTIONS, labels=labels, num_workers=2)
    assert 20 << 20 < summary.peak_memory < 400 << 20
    assert content(tmp_path / "two") == content(reference)
    for number in (2, 3):
        summary = build_slide_store(
            slides, tmp_path / "shards", OPTIONS, labels=labels, num_workers=1, shard=f"{number}/3"
        )
        assert not summary.has_store
    assert summary.num_unfinished == 2
    summary = build_slide_store(slides, tmp_path / "shards", OPTIONS, labels=labels, num_workers=1, shard="1/3")
    assert (summary.has_store, summary.num_cut, summary.num_before) == (True, 2, 4)
    assert content(tmp_path / "shards") == content(reference)


def test_shards_that_end_at_the_same_moment_all_say_that_the_store_is_whole(
    slides, labels, reference, tmp_path, monkeypatch
):
    (folder := tmp_path / "in").mkdir()
    for path in slides.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "empty.tiff").touch()
    words = {"num_workers": 1, "on_error": "skip"}
    original = slide_bags._cut

    def cut_while_the_other_shard_finishes(*work):
        progress = original(*work)
        monkeypatch.setattr(slide_bags, "_cut", original)
        assert build_slide_store(folder, tmp_path / "out", OPTIONS, shard="2/2", **words).has_store
        return progress

    monkeypatch.setattr(slide_bags, "_cut", cut_while_the_other_shard_finishes)
    summary = build_slide_store(folder, tmp_path / "out", OPTIONS, shard="1/2", **words)
    assert (summary.has_store, summary.num_unfinished, list(summary.failures)) == (True, 0, ["empty"])
    found = content(tmp_path / "out")
    assert found["tiles.npy"] == (reference / "tiles.npy").read_bytes()
    assert b"empty" in found["failures.csv"]


class StoppedError(BaseException):
    """Stands for the end of the process."""


@pytest.mark.slow
def test_a_run_stopped_at_any_step_goes_on_to_the_same_bytes(slides, labels, reference, tmp_path, monkeypatch):
    """Before each file that is renamed, deleted, synchronised or made in putting the store together."""
    monkeypatch.setattr(slide_append, "_BATCH_BYTES", 3 * 4 * 32 * 32 * 3)
    output, begun = tmp_path / "out", tmp_path / "begun"
    with monkeypatch.context() as patch:
        patch.setattr("milpath.tiling.slide_run.merge_store", lambda *_: (_ for _ in ()).throw(StoppedError))
        with pytest.raises(StoppedError):
            build_slide_store(slides, begun, OPTIONS, labels=labels, num_workers=2)
    steps = 0
    while not (output / "store.json").exists() or steps == 0:
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(begun, output)
        with monkeypatch.context() as patch:
            stop_before_step(patch, steps)
            try:
                build_slide_store(slides, output, OPTIONS, labels=labels, num_workers=1)
            except StoppedError:
                stopped = True
            else:
                stopped = False
        summary = build_slide_store(slides, output, OPTIONS, labels=labels, num_workers=1)
        assert (summary.num_cut, summary.has_store) == (0, True)
        assert content(output) == content(reference), f"stopped before step {steps}"
        assert not (output / "parts").exists()
        if not stopped:
            break
        (output / "store.json").unlink()
        steps += 1
    assert steps > 15


def test_a_store_under_way_that_was_damaged_is_not_gone_on_with(slides, tmp_path, monkeypatch):
    monkeypatch.setattr(slide_append, "_BATCH_BYTES", 3 * 4 * 32 * 32 * 3)
    real = slide_append.SlideParts.set_merged

    def stop(*words):
        real(*words)
        raise StoppedError

    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(slide_append.SlideParts, "set_merged", stop)
        build_slide_store(slides, tmp_path / "out", OPTIONS, num_workers=1)
    under_way = tmp_path / "out/parts/store/tiles.npy"
    content = bytearray(under_way.read_bytes())
    content[-1] ^= 1
    under_way.write_bytes(content)
    with pytest.raises(ValueError, match=r"^the tiles of slide 'slide c' were damaged in the unfinished store; delete"):
        build_slide_store(slides, tmp_path / "out", OPTIONS, num_workers=1)
    assert not (tmp_path / "out/store.json").exists()


def test_a_slide_replaced_under_its_name_is_not_taken_for_the_one_in_the_store(slides, tmp_path):
    folder = shutil.copytree(slides, tmp_path / "in")
    build_slide_store(folder, tmp_path / "out", OPTIONS, num_workers=1)
    moved = shutil.copytree(folder, tmp_path / "moved", copy_function=shutil.copyfile)
    assert build_slide_store(moved, tmp_path / "out", OPTIONS).num_cut == 0
    write_pyramid(folder / "slide a.tiff", tissue(150, 150, 99))
    with pytest.raises(
        FileExistsError, match=r"another slide a\.tiff than the current file \(1 of 6 slides were replaced\)"
    ):
        build_slide_store(folder, tmp_path / "out", OPTIONS)


def stop_before_step(patch, number):
    """End the run before its n-th change of the disk."""
    count = iter(range(10**6))

    def counted(original):
        def change(*words, **names):
            if next(count) == number:
                raise StoppedError
            return original(*words, **names)

        return change

    for name in ("replace", "unlink", "mkdir"):
        patch.setattr(Path, name, counted(getattr(Path, name)))
    patch.setattr(os, "fsync", counted(os.fsync))
    patch.setattr(shutil, "rmtree", counted(shutil.rmtree))


def test_a_finished_store_is_left_as_it_is(slides, labels, reference, tmp_path):
    output = shutil.copytree(reference, tmp_path / "out")
    (output / "parts").mkdir()  # of a run that was killed before its last step
    (output / "parts/merge.lock").touch()
    summary = build_slide_store(slides, output, OPTIONS, labels=labels)
    assert (summary.has_store, summary.num_cut, summary.num_before) == (True, 0, 6)
    assert content(output) == content(reference)
    with pytest.raises(FileExistsError, match="another output, or overwrite=true"):
        build_slide_store(slides, output, TileOptions(tile_size=16, num_tiles=4), labels=labels)
    (output / "mine.txt").write_text("stays")
    build_slide_store(slides, output, TileOptions(tile_size=16, num_tiles=4), labels=labels, overwrite=True)
    assert BagStore.open(output).tile_shape == (16, 16, 3)
    assert (output / "mine.txt").exists()


def test_unfinished_work_is_not_mixed_with_other_options(slides, tmp_path):
    build_slide_store(slides, tmp_path, OPTIONS, shard="1/6")
    with pytest.raises(ValueError, match=r"unfinished work with other options .*tile_size.*overwrite=true"):
        build_slide_store(slides, tmp_path, TileOptions(tile_size=16, num_tiles=4))


def test_a_slide_that_changed_is_cut_again(slides, tmp_path):
    folder = shutil.copytree(slides, tmp_path / "in")
    build_slide_store(folder, tmp_path / "out", OPTIONS, num_workers=1, shard="1/2")
    write_pyramid(folder / "slide a.tiff", tissue(150, 150, 99))
    summary = build_slide_store(folder, tmp_path / "out", OPTIONS, num_workers=1)
    assert (summary.num_cut, summary.num_before) == (4, 2)
    np.testing.assert_array_equal(
        BagStore.open(tmp_path / "out").tiles[:4], cut_slide(folder / "slide a.tiff", OPTIONS).pixels
    )


@pytest.fixture
def spoiled(slides, tmp_path):
    """Good slides among bad ones of every kind."""
    folder = shutil.copytree(slides, tmp_path / "in")
    (folder / "empty.tiff").touch()
    whole = (folder / "slide a.tiff").read_bytes()
    (folder / "truncated.tiff").write_bytes(whole[: len(whole) // 2])
    (folder / "text.svs").write_text("no slide")
    write_pyramid(folder / "blank.tiff", np.full((64, 64, 3), 255, np.uint8))
    write_pyramid(folder / "<script>.tiff", np.zeros((64, 64, 3), np.float32))
    return folder


BAD = ["<script>", "blank", "empty", "text", "truncated"]


def test_failed_slides_are_named_with_the_reason_and_no_store_is_written_unless_asked(spoiled, tmp_path):
    output = tmp_path / "out"
    summary = build_slide_store(spoiled, output, OPTIONS, num_workers=2)
    assert (summary.has_store, summary.num_cut, sorted(summary.failures)) == (False, 6, BAD)
    assert not (output / "store.json").exists()
    table = pd.read_csv(output / "failures.csv")
    assert table["slide"].tolist() == BAD
    assert table["reason"].str.len().min() > 15
    assert "blank" in table["reason"][1]
    assert "0 bytes" in table["reason"][2]
    write_pyramid(spoiled / "empty.tiff", tissue(64, 64))
    summary = build_slide_store(spoiled, output, OPTIONS, num_workers=1, on_error="skip")
    assert (summary.has_store, summary.num_cut, summary.num_before) == (True, 1, 6)
    assert pd.read_csv(output / "failures.csv")["slide"].tolist() == ["<script>", "blank", "text", "truncated"]
    assert sorted(BagStore.open(output).bags["bag_id"]) == sorted([*NAMES, "empty"])
    again = build_slide_store(spoiled, output, OPTIONS, on_error="skip")
    assert (again.has_store, again.num_cut) == (True, 0)


def test_a_folder_of_bad_slides_alone_gives_no_store(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/empty.tiff").touch()
    summary = build_slide_store(tmp_path / "in", tmp_path / "out", OPTIONS, on_error="skip")
    assert (summary.has_store, list(summary.failures)) == (False, ["empty"])
    with pytest.raises(ValueError, match="no store was written: fix them$"):
        require_complete_store(summary, "out", "skip")
    with pytest.raises(ValueError, match="no store was written: fix them, or add on_error=skip to leave them out$"):
        require_complete_store(summary, "out", "fail")


def test_slides_and_rows_that_do_not_match_stop_before_any_work(slides, labels, tmp_path):
    rows = labels.read_text().splitlines()
    (tmp_path / "more.csv").write_text("\n".join([*rows, "nowhere,karolinska,0,0"]))
    with pytest.raises(
        ValueError, match=r"1 slide cannot be cut: 'nowhere': in .*more\.csv, but no slide in .*on_error=skip"
    ):
        build_slide_store(slides, tmp_path / "out", OPTIONS, labels=tmp_path / "more.csv")
    assert not (tmp_path / "out").exists()
    (tmp_path / "less.csv").write_text("\n".join([*rows[:-1], "nowhere,karolinska,0,0"]))
    summary = build_slide_store(slides, tmp_path / "out", OPTIONS, labels=tmp_path / "less.csv", on_error="skip")
    assert set(summary.failures) == {"nowhere", "slide e"}
    assert "no row in" in summary.failures["slide e"]
    assert len(BagStore.open(tmp_path / "out")) == 5


def test_all_slides_that_cannot_be_cut_are_named_with_the_reason(slides, labels, tmp_path):
    (tmp_path / "few.csv").write_text("\n".join([*labels.read_text().splitlines()[:4], "nowhere,karolinska,0,0"]))
    with pytest.raises(ValueError, match="4 slides cannot be cut") as caught:
        build_slide_store(slides, tmp_path / "out", OPTIONS, labels=tmp_path / "few.csv")
    said = str(caught.value)
    assert f"'slide a', 'slide c', 'slide e': no row in {tmp_path}/few.csv" in said
    assert f"'nowhere': in {tmp_path}/few.csv, but no slide in {slides}; " in said
    assert said.endswith("; fix this, or add on_error=skip to leave them out")
    rows = [f"other {number},karolinska,0,0" for number in range(30)]
    (tmp_path / "many.csv").write_text("\n".join([*labels.read_text().splitlines(), *rows]))
    with pytest.raises(
        ValueError, match="'other 26': in .*; and 10 more; fix this, or add .* list them all in failures.csv"
    ):
        build_slide_store(slides, tmp_path / "out", OPTIONS, labels=tmp_path / "many.csv")


def test_what_a_killed_process_left_among_the_png_files_is_removed(slides, tmp_path):
    left = tmp_path / "out/png/.slide a_0.png.1.0123abcd.partial"
    for overwrite in (False, False, True):
        left.parent.mkdir(parents=True, exist_ok=True)
        left.write_bytes(b"half")
        assert build_slide_store(slides, tmp_path / "out", OPTIONS, write_png=True, overwrite=overwrite).has_store
        assert not left.exists()
        assert len(list(left.parent.iterdir())) == 4 * len(NAMES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image_id,isup_grade\na,1\na,2\n", "in more than one row"),
        ("name,isup_grade\na,1\n", "no column that identifies the bags"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(slides, tmp_path, text, message):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        build_slide_store(slides, tmp_path / "out", OPTIONS, labels=tmp_path / "labels.csv")


def test_a_table_as_a_clinic_sends_it_is_read(slides, labels, reference, tmp_path):
    rows = "".join(f"{name}.SVS;{number};2020;7\r\n" for number, name in enumerate(NAMES))
    text = f"Präparat;ISUP Grade;start;level\r\n{rows}"
    (tmp_path / "clinic.csv").write_bytes(text.encode("utf-16"))
    summary = build_slide_store(
        slides,
        tmp_path / "out",
        OPTIONS,
        labels=tmp_path / "clinic.csv",
        id_column="präparat",
        label_column="isup_grade",
    )
    assert summary.has_store
    store = BagStore.open(tmp_path / "out")
    np.testing.assert_array_equal(store.tiles, np.load(reference / "tiles.npy"))
    assert store.bags["ISUP Grade"].tolist() == [NAMES.index(name) for name in sorted(NAMES)]
    for name, expected in (("start", 2020), ("level", 7)):
        assert set(store.bags[find_column(store.bags.columns, name)]) == {expected}
    assert set(store.bags["level"]) == {2}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"label_column": "grade"}, r"needs the column 'grade'; the data have bag_id, label"),
        ({"label_column": "label"}, r"has no 'label' for 1 of 6 slides \('slide d' in row 4\)"),
        ({"id_column": "slide"}, r"has no column 'slide' \(id_column\); it has id, label"),
    ],
)
def test_a_wrong_table_is_refused_before_the_first_slide_is_cut(slides, tmp_path, words, message):
    rows = [f"{name},{'' if name == 'slide d' else number}" for number, name in enumerate(NAMES)]
    (tmp_path / "labels.csv").write_text("\n".join(["id,label", *rows]))
    with pytest.raises(ValueError, match=message):
        build_slide_store(slides, tmp_path / "out", OPTIONS, labels=tmp_path / "labels.csv", **words)
    assert not (tmp_path / "out").exists()


def test_no_slides_no_table_and_no_masks_are_said(slides, labels, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/readme.txt").touch()
    with pytest.raises(FileNotFoundError, match="no slide to cut in"):
        build_slide_store(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no slides at"):
        build_slide_store(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no label table at"):
        build_slide_store(slides, tmp_path / "out", labels=tmp_path / "no.csv")
    with pytest.raises(ValueError, match="masks need labels=CSV with the column data_provider"):
        build_slide_store(slides, tmp_path / "out", masks=slides)
    with pytest.raises(FileNotFoundError, match="masks=.*nowhere does not exist; give the folder of the masks"):
        build_slide_store(slides, tmp_path / "out", labels=labels, masks=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no mask in .* belongs to a slide"):
        build_slide_store(slides, tmp_path / "out", labels=labels, masks=tmp_path / "empty")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"on_error": "ignore"}, "on_error=ignore is unknown; it must be one of fail, skip"),
        ({"num_workers": 0}, "num_workers=0 must be at least 1"),
        ({"overwrite": True, "shard": "1/2"}, "would delete the work of the other shards"),
        ({"shard": "3"}, "must be i/n"),
        ({"max_seconds": 0}, "max_seconds=0 must be above 0 and at most 2,592,000, or null for no limit"),
        ({"max_seconds": -1}, "max_seconds=-1 must be above 0"),
        ({"max_seconds": 1e30}, r"max_seconds=1e\+30 must be above 0"),
        ({"id_column": "case"}, "id_column=case is a column of labels or resolutions; give one of them"),
        ({"label_column": "grade"}, "label_column=grade is a column of labels; give labels=CSV"),
    ],
)
def test_an_option_of_a_run_that_makes_no_sense_is_refused(slides, tmp_path, words, message):
    with pytest.raises(ValueError, match=message):
        build_slide_store(slides, tmp_path / "out", OPTIONS, **words)
    assert not (tmp_path / "out" / "store.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            {"slides": "out"},
            "output=out is the folder of slides=out, whose files this command would replace; set another",
        ),
        ({"slides": "linked"}, "output=out is the folder of slides=linked"),
        (
            {"slides": "out/png"},
            "slides=out/png is out/png, which this command replaces itself .output=out.; set another",
        ),
        ({"slides": "out/png/one"}, "slides=out/png/one is in out/png"),
        ({"slides": "slides", "labels": "out/bags.csv"}, "labels=out/bags.csv is out/bags.csv"),
        ({"slides": "slides", "labels": "labels.csv", "masks": "out/png"}, "masks=out/png is out/png"),
        ({"slides": "slides", "resolutions": "out/tiles.csv"}, "resolutions=out/tiles.csv is out/tiles.csv"),
        ({"slides": "links"}, "slide 'slide z' of slides=links/slide z.tiff is in out/png"),
    ],
)
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_run_never_deletes_what_it_reads(slides, labels, tmp_path, monkeypatch, words, message, overwrite):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slides").symlink_to(slides)
    shutil.copy(labels, "labels.csv")
    build_slide_store("slides", "out", OPTIONS, write_png=True, labels="labels.csv")
    shutil.copytree(slides, "out/png/one")
    (tmp_path / "linked").symlink_to("out")
    (tmp_path / "links").mkdir()
    (tmp_path / "links/slide z.tiff").symlink_to(tmp_path / "out/png/one/slide a.tiff")
    before = sorted(tmp_path.rglob("*"))
    if words["slides"] == "links" and not overwrite:
        message = "another output"
    with pytest.raises((ValueError, FileExistsError), match=message) as error:
        build_slide_store(
            words["slides"], "out", OPTIONS, overwrite=overwrite, **{k: v for k, v in words.items() if k != "slides"}
        )
    assert sorted(tmp_path.rglob("*")) == before
    assert words["slides"] == "links" or "overwrite=true" not in str(error.value)


def test_an_output_among_the_slides_or_above_them_is_overwritten(slides, tmp_path):
    """Nothing that is read is deleted."""
    shutil.copytree(slides, tmp_path / "above/slides")
    for output in (tmp_path / "above", tmp_path / "above/slides/store"):
        for overwrite in (False, True):
            assert build_slide_store(tmp_path / "above/slides", output, OPTIONS, overwrite=overwrite).has_store
    assert len(list((tmp_path / "above/slides").glob("*.tiff"))) == len(NAMES)


def test_masks_of_panda_label_the_tiles_and_their_absence_is_said(shared_data, tmp_path):
    folder = shared_data / "panda_pixels"
    summary = build_slide_store(
        folder / "level2", tmp_path / "out", labels=folder / "labels.csv", masks=folder / "masks_level2", num_workers=1
    )
    assert "1 of 2 slides have no mask: '002a4db09dad406c85505a00fb6f6144'" in summary.notes
    store = BagStore.open(tmp_path / "out")
    labelled, unknown = store.tiles_table[:16], store.tiles_table[16:]
    assert store.tile_labels[:16].tolist() == [1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1]
    assert labelled["cancer_fraction"][0] == pytest.approx(0.4673)
    assert set(labelled["gleason_pattern"].dropna()) == {4}
    assert (store.tile_labels[16:] == -1).all()
    assert unknown["cancer_fraction"].isna().all()


def test_a_mask_of_another_size_fails_its_slide(slides, labels, tmp_path):
    masks = tmp_path / "masks"
    write_pyramid(masks / "slide a_mask.tiff", np.zeros((50, 50, 3), np.uint8))
    summary = build_slide_store(slides, tmp_path / "out", OPTIONS, labels=labels, masks=masks, on_error="skip")
    assert list(summary.failures) == ["slide a"]
    assert "slide a_mask.tiff has levels of" in summary.failures["slide a"]


def test_png_files_are_named_and_filled_as_the_published_ones(shared_data, tmp_path):
    folder = shared_data / "panda_pixels"
    build_slide_store(folder / "level2", tmp_path / "out", num_workers=1, write_png=True)
    published = sorted(path.name for path in (folder / "train").iterdir())
    assert sorted(path.name for path in (tmp_path / "out/png").iterdir()) == published
    for name in published:
        ours, theirs = (
            np.asarray(Image.open(path / name).convert("RGB")) for path in (tmp_path / "out/png", folder / "train")
        )
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture
def tiny_disk(tmp_path):
    """A folder that takes 200 kB: a disk in memory, or where none may be mounted, a bound on the size of files."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if shutil.which("mount") and subprocess.run(mount, capture_output=True).returncode == 0:
        yield folder, lambda: subprocess.run(["mount", "-o", "remount,size=4m", str(folder)], check=True)
        subprocess.run(["umount", str(folder)], check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    yield folder, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.slow
def test_a_full_disk_stops_the_run_and_costs_no_finished_slide(slides, tmp_path, tiny_disk):
    folder, make_room = tiny_disk
    options = TileOptions(method="grid", tile_size=32)
    with pytest.raises(
        ValueError, match="cannot write to .*(No space left|too large).*; make room and run the same command"
    ):
        build_slide_store(slides, folder / "out", options, num_workers=1)
    assert not (folder / "out" / "store.json").exists()
    assert not list((folder / "out" / "parts").glob(".*")), "half a slide was left"
    make_room()
    summary = build_slide_store(slides, folder / "out", options, num_workers=1)
    assert summary.num_cut + summary.num_before == 6
    build_slide_store(slides, tmp_path / "other", options, num_workers=1)
    assert content(folder / "out") == content(tmp_path / "other")


def test_a_folder_that_may_not_be_written_is_named(slides, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir(mode=0o555)
    try:
        if os.getuid() == 0:
            for parent in {*tmp_path.parents, *slides.parents, tmp_path, slides}:
                if parent.stat().st_mode & 0o555 != 0o555:
                    parent.chmod(0o755)
            os.seteuid(65534)  # nothing is forbidden to root
        with pytest.raises(PermissionError, match=r"cannot write to .*mine/out .*give a folder that you may write to"):
            build_slide_store(slides, folder / "out", OPTIONS)
    finally:
        os.seteuid(os.getuid())


def test_a_disk_that_is_mounted_read_only_is_named(slides, tmp_path, monkeypatch):
    def refuse(path, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(PermissionError, match=r"cannot write to .*out \(Read-only file system: .*may write to"):
        build_slide_store(slides, tmp_path / "out", OPTIONS)


def test_a_disk_without_room_is_noticed_before_any_work(slides, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(slide_output.shutil, "disk_usage", lambda _: usage._replace(free=10_000))
    with pytest.raises(ValueError, match=r"6 slides need 0\.\d MB, .* has 0\.0 MB free; free some disk space"):
        build_slide_store(slides, tmp_path / "out", OPTIONS)


def test_a_disk_that_fills_up_while_the_store_is_put_together_costs_nothing(
    slides, labels, reference, tmp_path, monkeypatch
):
    original = slide_append._append

    def full(path, record, target, digest):
        if record.bag_id == "slide d":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(path, record, target, digest)

    with monkeypatch.context() as patch:
        patch.setattr(slide_append, "_append", full)
        with pytest.raises(
            ValueError, match="cannot write to .*No space left on device; make room and run the same command"
        ):
            build_slide_store(slides, tmp_path / "out", OPTIONS, labels=labels, num_workers=2)
    summary = build_slide_store(slides, tmp_path / "out", OPTIONS, labels=labels)
    assert (summary.num_cut, summary.num_before) == (0, 6)
    assert content(tmp_path / "out") == content(reference)


@pytest.mark.slow
def test_tiles_that_were_damaged_on_disk_are_noticed_and_cut_again(slides, labels, reference, tmp_path):
    build_slide_store(slides, tmp_path / "out", OPTIONS, labels=labels, shard="1/2")
    part = next((tmp_path / "out/parts").glob("*.npy"))
    data = bytearray(part.read_bytes())
    data[-1] ^= 1
    part.write_bytes(data)
    with pytest.raises(ValueError, match="were damaged on disk; run the same command again"):
        build_slide_store(slides, tmp_path / "out", OPTIONS, labels=labels)
    summary = build_slide_store(slides, tmp_path / "out", OPTIONS, labels=labels)
    assert summary.num_cut == 1
    assert content(tmp_path / "out") == content(reference)


def test_the_real_slides_give_the_published_hashes_through_the_store(shared_data, tmp_path):
    folder = tmp_path / "train_images"
    panda = shared_data / "panda_pixels"
    golden = json.loads((panda / "golden_tiling.json").read_text())
    for name in golden:
        write_pyramid(folder / f"{name}.tiff", level2(panda, name), factors=(2, 1), tile=512)
    build_slide_store(folder, tmp_path / "out", labels=panda / "labels.csv", num_workers=1)
    store = BagStore.open(tmp_path / "out")
    hashes = [hashlib.sha256(tile.tobytes()).hexdigest() for tile in np.asarray(store.tiles)]
    assert hashes == [value for name in sorted(golden) for value in golden[name]["tile_sha256"]]
    assert store.bags["isup_grade"].tolist() == [4, 0]

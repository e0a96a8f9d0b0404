"""Planted leaks of each kind are found with their names, and clean data give no alarm."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance

from milpath.checks.check_report import groups_table, printed_lines, write_checks
from milpath.checks.check_slides import CheckOptions, check_slides
from milpath.checks.checked_inputs import slides_of_files, slides_of_table
from milpath.checks.findings import SlidePair
from milpath.checks.slide_facts import FACTS_FILE, slide_facts
from milpath.slides.slide_files import find_slides

FEW = CheckOptions(num_permutations=199, num_resamples=50)


def table_of(tmp_path, **columns):
    path = tmp_path / "labels.csv"
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def cohort(seed=0, num_patients=40):
    """A clean cohort: patients of two slides, with a label, a scanner and a split that have nothing to do with each other."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(num_patients), 2)
    order = rng.permutation(1000)[: len(patient)]
    return {
        "slide_id": [f"S{number:03d}" for number in order],
        "label": rng.integers(0, 2, num_patients)[patient],
        "patient_id": [f"P{number:03d}" for number in patient],
        "scanner": rng.choice(["aperio", "hamamatsu"], num_patients)[patient],
        "scan_date": pd.to_datetime(rng.integers(0, 1000, len(patient)), unit="D").strftime("%Y-%m-%d"),
        "split": np.where(patient % 4 == 0, "test", "train"),
    }


def levels(checks, level):
    return [finding for finding in checks.findings if finding.level == level]


def checked(tmp_path, content, **options):
    slides = slides_of_table(table_of(tmp_path, **content), split_column="split", **options)
    return check_slides(slides, options=FEW)


def test_a_clean_cohort_gives_no_alarm_and_says_what_was_looked_for(tmp_path):
    checks = checked(tmp_path, cohort())
    assert levels(checks, "leak") == levels(checks, "look") == []
    assert checks.slides.summary() == "80 slides; 40 values of patient_id; splits test 20, train 60"
    said = "\n".join(finding.sentence for finding in levels(checks, "ok"))
    assert "none of 40 values of patient_id is in two splits" in said
    assert "no two of 40 values of patient_id differ only by how they are written" in said
    assert "no association beyond chance with 4 others of 4 tested" in said
    assert any("give slides=FOLDER" in finding.sentence for finding in levels(checks, "unchecked"))


def test_clean_cohorts_hardly_ever_give_an_alarm(tmp_path):
    alarms = [
        finding.sentence
        for seed in range(30)
        for finding in checked(tmp_path, cohort(seed, 24)).findings
        if finding.level in ("leak", "look")
    ]
    assert len(alarms) <= 4  # 0.05 of 30, with three standard errors


PLANTED = {
    "patient on two sides": (lambda c: c["split"].__setitem__(0, "train"), "leak", "patients across splits"),
    "patient under two names": (
        lambda c: c["patient_id"].__setitem__(0, "p-0"), "look", "one patient under two names",
    ),
    "scanner by label": (
        lambda c: c.update(scanner=np.where(c["label"] == 1, "aperio", "hamamatsu")), "look", "can be told from scanner",
    ),
    "date by label": (
        lambda c: c.update(scan_date=[f"20{10 + label}-05-01" for label in c["label"]]), "look", "can be told from scan_date",
    ),
    "name by label": (
        lambda c: c.update(slide_id=[f"{'tumour' if own else 'normal'}_{n}" for n, own in enumerate(c["label"])]),
        "look", "can be told from word 1 of the name",
    ),
    "order by label": (
        lambda c: c.update(slide_id=[f"S{1000 * own + n}" for n, own in enumerate(c["label"])]),
        "look", "can be told from number 1 of the name",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", PLANTED)
def test_each_planted_leak_is_found(tmp_path, kind):
    plant, level, words = PLANTED[kind]
    content = {name: np.array(values, dtype=object) for name, values in cohort().items()}
    plant(content)
    checks = checked(tmp_path, content)
    assert any(words in finding.line() for finding in levels(checks, level))


@pytest.fixture
def slide_folder(tmp_path):
    """Twelve pictures of noise that a compression keeps."""
    folder = tmp_path / "slides"
    folder.mkdir()
    for number in range(12):
        rng = np.random.default_rng(number)
        small = Image.fromarray(rng.integers(60, 220, (16, 20, 3), dtype=np.uint8))
        small.resize((160, 128), Image.Resampling.BICUBIC).save(folder / f"s{number:02d}.png")
    return folder


def test_slides_without_a_patient_are_counted_and_are_no_values(tmp_path):
    content = cohort()
    content["patient_id"] = [name if number % 2 else None for number, name in enumerate(content["patient_id"])]
    checks = checked(tmp_path, content, group_column="patient_id")
    assert checks.slides.summary() == "80 slides; 40 values of patient_id (none for 40); splits test 20, train 60"
    (found,) = [finding for finding in levels(checks, "look") if finding.check == "patients across splits"]
    assert found.sentence == (
        "none of 40 values of patient_id is in two splits; 40 slides have no value, and each counts as a patient of its own"
    )


def slides_in(tmp_path, folder, **columns):
    files = dict(find_slides(folder).found)
    count = len(files)
    content = {"slide_id": list(files), "label": np.arange(count) % 2, "patient": np.arange(count)} | columns
    content["split"] = content.get("split", np.where(np.arange(count) % 3 == 0, "test", "train"))
    slides = slides_of_table(table_of(tmp_path, **content), split_column="split")
    return slides, files


def test_near_duplicates_and_copies_across_splits_are_named(tmp_path, slide_folder):
    picture = Image.open(slide_folder / "s03.png")
    ImageEnhance.Brightness(picture.transpose(Image.Transpose.ROTATE_90)).enhance(0.9).save(
        slide_folder / "s20.jpg", quality=50
    )
    (slide_folder / "s21.png").write_bytes((slide_folder / "s06.png").read_bytes())
    slides, files = slides_in(tmp_path, slide_folder)
    checks = check_slides(slides, facts=slide_facts(files, tmp_path), options=FEW)
    (copy,) = [finding for finding in levels(checks, "leak") if finding.check == "same file"]
    assert (
        copy.sentence
        == "1 pair of slides are the same file twice, 1 of them in two splits, 1 under two values of patient"
    )
    assert copy.examples[0].startswith("s06 (test, patient 6) and s21 (train, patient 13): ")
    (near,) = [finding for finding in levels(checks, "look") if finding.check == "near-duplicate slides"]
    assert near.sentence.startswith("1 pair of slides among 14 slides (91 pairs, each in 8 orientations) look the same")
    assert "s03 (test, patient 3) and s20" in near.examples[0]
    assert near.examples[0].endswith("turned or mirrored")
    groups = groups_table(checks).set_index("image_id")["group"]
    assert groups["s03"] == groups["s20"] != groups["s06"]
    assert groups["s06"] == groups["s21"]
    assert groups.nunique() == 12


def test_different_pictures_are_no_duplicates_and_files_are_opened_once(tmp_path, slide_folder, monkeypatch):
    slides, files = slides_in(tmp_path, slide_folder)
    facts = slide_facts(files, tmp_path)
    checks = check_slides(slides, facts=facts, options=FEW)
    said = [finding.sentence for finding in levels(checks, "ok")]
    assert "no near-duplicate among 12 slides (66 pairs, each in 8 orientations)" in said
    assert "no two of 12 files have the same content" in said
    assert {"file size", "date of the file", "red density"} & {each.name for each in checks.associations}
    monkeypatch.setattr("milpath.checks.slide_facts.open_slide", None)
    again = slide_facts(files, tmp_path)
    pd.testing.assert_frame_equal(facts, again, check_dtype=False)
    (tmp_path / FACTS_FILE).write_text("damaged")
    monkeypatch.undo()
    assert len(slide_facts(files, tmp_path)) == 12


def test_slides_that_cannot_be_read_or_show_nothing_are_named(tmp_path, slide_folder):
    (slide_folder / "s00.png").write_bytes(b"no picture")
    for name in ("s01", "s02"):  # two blank slides are not duplicates of each other
        Image.new("RGB", (100 + int(name[1:]), 80), (243, 243, 243)).save(slide_folder / f"{name}.png")
    slides, files = slides_in(tmp_path, slide_folder)
    checks = check_slides(slides, facts=slide_facts(files, tmp_path), options=FEW)
    unchecked = [finding.sentence for finding in levels(checks, "unchecked")]
    assert "1 slide cannot be read" in unchecked
    assert "2 slides have a thumbnail of one brightness, which is like any other" in unchecked
    assert any(finding.sentence.startswith("no near-duplicate among 9 slides") for finding in levels(checks, "ok"))


def test_probes_say_what_the_embedding_tells_and_whether_the_label_follows_it(tmp_path):
    content = cohort(num_patients=60)
    content["scanner"] = np.where(np.random.default_rng(1).random(120) < 0.9, content["label"], 1 - content["label"])
    content["scanner"] = np.where(content["scanner"] == 1, "aperio", "hamamatsu")
    content["site"] = np.random.default_rng(2).choice(["x", "y"], 60)[np.repeat(np.arange(60), 2)]
    embeddings = np.random.default_rng(3).normal(size=(120, 10))
    embeddings[:, 0] += 6 * (content["scanner"] == "aperio")
    slides = slides_of_table(table_of(tmp_path, **content))
    checks = check_slides(slides, embeddings=(embeddings, "the mean features"), options=FEW)
    said = {
        probe.name: finding
        for probe, finding in zip(
            checks.probes, [f for f in checks.findings if "be told from the mean" in f.sentence], strict=True
        )
    }
    assert said["scanner"].level == "look"
    assert "scanner can be told from the mean features: AUROC" in said["scanner"].sentence
    assert "the label follows it as well" in said["scanner"].sentence
    assert said["site"].level == "ok"
    assert "site cannot be told" in said["site"].sentence
    assert "with 0.50 by guessing" in said["site"].sentence


def test_a_site_of_a_single_patient_cannot_be_probed(tmp_path):
    content = cohort()
    content["site"] = ["alone" if patient == "P000" else "others" for patient in content["patient_id"]]
    slides = slides_of_table(table_of(tmp_path, **content))
    checks = check_slides(
        slides, embeddings=(np.random.default_rng(0).normal(size=(80, 3)), "the mean features"), options=FEW
    )
    assert any(
        "site: 'alone' is the value of a single patient" in finding.sentence for finding in levels(checks, "unchecked")
    )


def test_files_and_lines_say_the_same(tmp_path):
    content = cohort()
    content["split"][0] = "train"
    slides = slides_of_table(table_of(tmp_path, **content), split_column="split")
    checks = check_slides(slides, options=FEW)
    checks.pairs.append(SlidePair("same file", slides.names[0], slides.names[5], "a, \x1b[2J"))
    write_checks(checks, tmp_path, {"seed": 0})
    record = json.loads((tmp_path / "data_check.json").read_text())
    assert record["findings"][0]["level"] == "leak"
    assert record["slides"] == 80
    assert {each["name"] for each in record["associations"]} >= {"scanner", "scan_date"}
    pairs = pd.read_csv(tmp_path / "pairs.csv", dtype=str)
    assert pairs.loc[0, ["first", "first_split", "second_group"]].tolist() == [slides.names[0], "train", "P002"]
    groups = pd.read_csv(tmp_path / "groups.csv", dtype=str)
    assert groups["group"].nunique() == 39
    lines = printed_lines(checks, tmp_path)
    assert lines[2].startswith("leak      patients across splits: 1 of 40 values of patient_id")
    assert lines[3].strip() == "P000: test 1, train 1"
    assert any(f"data.groups={tmp_path / 'groups.csv'}" in line for line in lines)


def test_too_few_permutations_for_so_many_tests_are_named(tmp_path):
    slides = slides_of_table(table_of(tmp_path, **cohort()))
    checks = check_slides(slides, options=CheckOptions(num_permutations=19, num_resamples=5))
    assert any("give num_permutations=80 or more" in finding.sentence for finding in levels(checks, "unchecked"))


def test_a_folder_of_slides_alone_is_enough(tmp_path, slide_folder):
    files = dict(find_slides(slide_folder).found)
    checks = check_slides(slides_of_files(list(files)), facts=slide_facts(files, tmp_path), options=FEW)
    assert levels(checks, "leak") == levels(checks, "look") == []
    assert any("no labels" in finding.sentence for finding in levels(checks, "unchecked"))


def test_glas_shares_eleven_of_its_sixteen_patients(shared_data, tmp_path):
    slides = slides_of_table(shared_data / "glas" / "labels.csv", id_column="image", split_column="split")
    checks = check_slides(slides, options=FEW)
    (leak,) = levels(checks, "leak")
    assert leak.sentence.startswith("11 of 16 values of patient are in more than one split, with 156 slides")


def test_the_provider_of_panda_says_something_of_the_grade(shared_data):
    slides = slides_of_table(shared_data / "panda_meta" / "train.csv")
    checks = check_slides(slides, options=CheckOptions(num_permutations=99, num_resamples=20))
    (look,) = levels(checks, "look")
    assert "the label can be told from data_provider: AUROC 0.60" in look.sentence


def test_a_table_without_rows_is_refused_instead_of_called_in_order(tmp_path):
    (tmp_path / "labels.csv").write_text("slide_id,label\n")
    with pytest.raises(ValueError, match=r"labels.csv has a header but no rows; give a table with one row per slide"):
        slides_of_table(tmp_path / "labels.csv")


def test_a_word_for_a_missing_label_is_no_class_without_a_word(tmp_path):
    rows = [f"s{number},{('benign', 'malignant', 'NA')[number % 3]}" for number in range(12)]
    (tmp_path / "labels.csv").write_text("\n".join(["slide_id,label", *rows]))
    checks = check_slides(slides_of_table(tmp_path / "labels.csv"), options=CheckOptions(num_permutations=99))
    (look,) = levels(checks, "look")
    assert look.line() == (
        "look      labels: 4 slides have the label 'NA', which counts as a class here; a training refuses it, unless "
        "data.class_names names it: label or remove them"
    )

import re

import pytest

from milpath.data.sources.features.feature_folder import find_feature_files, holds_features


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def found(folder):
    return {name: path.relative_to(folder).as_posix() for name, path in find_feature_files(folder).items()}


def test_subfolders_of_any_depth_are_searched(tmp_path):
    touch(tmp_path, "b.h5", "BRCA/patient_1/a.h5", "LUAD/c.hdf5", "LUAD/d.pt", "LUAD/notes.txt")
    assert found(tmp_path) == {"a": "BRCA/patient_1/a.h5", "b": "b.h5", "c": "LUAD/c.hdf5", "d": "LUAD/d.pt"}


def test_hidden_files_and_those_of_macos_are_no_features(tmp_path):
    touch(tmp_path, "a.h5", "._a.h5", ".b.h5", ".cache/c.h5", "__MACOSX/._d.h5", "deep/._e.pt", "deep/f.pt")
    assert found(tmp_path) == {"a": "a.h5", "f": "deep/f.pt"}
    assert not holds_features(touch(tmp_path / "only", "._a.h5"))


def test_the_two_formats_of_clam_are_one_set(tmp_path):
    touch(tmp_path, "h5_files/a.h5", "pt_files/a.pt", "pt_files/b.pt", "h5_files/c.pt", "h5_files/c.h5")
    assert found(tmp_path) == {"a": "h5_files/a.h5", "b": "pt_files/b.pt", "c": "h5_files/c.h5"}


def test_a_folder_for_each_encoder_is_refused_with_the_folders(tmp_path):
    touch(tmp_path, "features_uni_v2/a.h5", "features_uni_v2/b.h5", "features_conch_v1/a.h5", "patches/a_patches.h5")
    words = "1 slide(s) in more than one folder (first: 'a'; folders: 'features_conch_v1', 'features_uni_v2'); give only one"
    with pytest.raises(ValueError, match=re.escape(words)):
        find_feature_files(tmp_path)
    assert found(tmp_path / "features_uni_v2") == {"a": "a.h5", "b": "b.h5"}


def test_a_folder_for_each_slide_below_a_folder_for_each_encoder_is_summed_up(tmp_path):
    touch(tmp_path, *(f"out/{encoder}/case_{n}/{n}.h5" for encoder in ("uni", "conch") for n in range(30)), "out/31.h5")
    with pytest.raises(
        ValueError, match=re.escape("30 slide(s) in more than one folder (first: '0'; folders: 'out/conch', 'out/uni')")
    ):
        find_feature_files(tmp_path)
    touch(tmp_path / "x", "a.h5", "below/a.h5")
    with pytest.raises(ValueError, match=re.escape("folders: '.', 'below')")):
        find_feature_files(tmp_path / "x")


def test_coordinates_of_trident_are_no_features(tmp_path):
    touch(tmp_path, "features_uni_v2/a.h5", "patches/a_patches.h5")
    assert found(tmp_path) == {"a": "features_uni_v2/a.h5"}


def test_features_of_whole_slides_beside_those_of_tiles_are_left_out(tmp_path):
    touch(tmp_path, "features_conch_v15/a.h5", "slide_features_titan/a.h5", "patches/a_patches.h5")
    assert found(tmp_path) == {"a": "features_conch_v15/a.h5"}
    assert found(tmp_path / "slide_features_titan") == {"a": "a.h5"}  # whose file is refused with its shape


def test_of_the_folders_of_clam_that_of_the_features_is_proposed(tmp_path):
    touch(tmp_path, "FEATURES/h5_files/a.h5", "FEATURES/pt_files/a.pt", "RESULTS/patches/a.h5")
    with pytest.raises(ValueError, match="give only one of these folders, such as .*/FEATURES$"):
        find_feature_files(tmp_path)


def test_a_single_file_is_one_slide(tmp_path):
    touch(tmp_path, "a.h5")
    assert find_feature_files(tmp_path / "a.h5") == {"a": tmp_path / "a.h5"}


def test_a_folder_that_is_linked_into_itself_is_searched_once(tmp_path):
    touch(tmp_path, "x/a.h5")
    (tmp_path / "x/again").symlink_to(tmp_path)
    assert found(tmp_path) == {"a": "x/a.h5"}


def test_two_names_that_differ_in_case_only_are_refused(tmp_path):
    touch(tmp_path, "x/Slide.h5", "y/slide.h5")
    with pytest.raises(ValueError, match="contains 'Slide' and 'slide', which are the same name"):
        find_feature_files(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "labels.csv"])
def test_nothing_there_says_what_to_put_there(tmp_path, name):
    (tmp_path / "labels.csv").write_text("slide_id,label\nS1,0\n")
    with pytest.raises(FileNotFoundError, match="no .h5 or .pt files at .*; set data.path=FOLDER"):
        find_feature_files(tmp_path / name)


@pytest.mark.parametrize("name", ["features_UNI/wsi1.npy", "slide.zarr/tables/uni_tiles/zarr.json"])
def test_arrays_in_other_formats_say_what_to_write(tmp_path, name):
    touch(tmp_path, name)
    with pytest.raises(
        FileNotFoundError, match=r"write its \.(npy|zarr) as \{slide_id\}\.h5 with the datasets features and coords$"
    ):
        find_feature_files(tmp_path)

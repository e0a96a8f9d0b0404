import re
import resource

import h5py
import numpy as np
import pytest
import torch

from milpath.data.sources.features.feature_bags import FeatureBags
from milpath.data.store.store_build import open_or_build
from tests.feature_files import write_stamp, write_trident


def write_h5(path, features, coords=None, patch_size=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        if features is not None:
            file["features"] = features
        if coords is not None:
            file["coords"] = coords
            if patch_size is not None:
                file["coords"].attrs["patch_size_level0"] = patch_size


@pytest.fixture
def slides():
    rng = np.random.default_rng(0)
    return {
        f"slide_{length}": (rng.normal(size=(length, 8)).astype(np.float32), rng.integers(0, 9999, (length, 2)))
        for length in (5, 1, 12)
    }


@pytest.fixture
def labels(tmp_path, slides):
    lines = [f"{name},{number % 2},case_{number}" for number, name in enumerate(slides)]
    (tmp_path / "labels.csv").write_text("slide_id,label,case_id\n" + "\n".join(lines) + "\n")
    return tmp_path / "labels.csv"


def build(tmp_path, labels, **arguments):
    return open_or_build(FeatureBags(tmp_path / "features", labels, **arguments), tmp_path / "stores")


def check(store, slides, with_coords=True):
    assert store.bags["bag_id"].tolist() == sorted(slides)
    for index, name in enumerate(store.bags["bag_id"]):
        where = store.tile_slice(index)
        np.testing.assert_array_equal(store.tiles[where], slides[name][0])
        if with_coords:
            np.testing.assert_array_equal(store.tiles_table[where][["x", "y"]], slides[name][1])
    assert "case_id" in store.bags.columns


@pytest.mark.parametrize("batched", [False, True])
def test_trident_files_are_read_with_and_without_a_leading_axis(tmp_path, slides, labels, batched):
    for name, (features, coords) in slides.items():
        write_h5(
            tmp_path / "features" / f"{name}.h5",
            features[None] if batched else features,
            coords[None] if batched else coords,
            512,
        )
    store = build(tmp_path, labels)
    check(store, slides)
    assert store.description["tiling"] == {"rule": "features", "tile_size_level0": 512}


def test_clam_folders_are_read_with_coordinates_first(tmp_path, slides, labels):
    for name, (features, coords) in slides.items():
        write_h5(tmp_path / "features" / "h5_files" / f"{name}.h5", features, coords)
        (tmp_path / "features" / "pt_files").mkdir(exist_ok=True)
        torch.save(torch.from_numpy(features), tmp_path / "features" / "pt_files" / f"{name}.pt")
    check(build(tmp_path, labels), slides)


@pytest.mark.parametrize("form", ["tensor", "dictionary"])
def test_tensors_are_read(tmp_path, slides, labels, form):
    (tmp_path / "features").mkdir()
    for name, (features, coords) in slides.items():
        content = torch.from_numpy(features)
        if form == "dictionary":
            content = {"features": content, "coords": torch.from_numpy(coords)}
        torch.save(content, tmp_path / "features" / f"{name}.pt")
    check(build(tmp_path, labels), slides, with_coords=form == "dictionary")


def test_half_precision_can_be_kept(tmp_path, slides, labels):
    for name, (features, coords) in slides.items():
        write_h5(tmp_path / "features" / f"{name}.h5", features.astype(np.float16), coords)
    assert build(tmp_path, labels).tiles.dtype == np.float32
    assert build(tmp_path, labels, dtype="float16").tiles.dtype == np.float16


def one_line(tmp_path, labels, kind, pattern, **arguments):
    with pytest.raises(kind, match=pattern) as error:
        build(tmp_path, labels, **arguments)
    assert "\n" not in str(error.value)


def bad_file(tmp_path, labels, bag_id, reason):
    """One file of three cannot be read: it is named with the reason, and the message says what to type."""
    way_out = (
        r"; repair them, or leave them out with data.on_error=skip or data.exclude=\[.*failures.csv\], which lists "
    )
    pattern = rf"^1 of 3 bags in .*features cannot be read: '{bag_id}' \({reason}\){way_out}them all$"
    one_line(tmp_path, labels, ValueError, pattern)


def test_an_h5_without_features_is_named(tmp_path, slides, labels):
    for name, (features, coords) in slides.items():
        write_h5(tmp_path / "features" / f"{name}.h5", features if name != "slide_12" else None, coords)
    bad_file(tmp_path, labels, "slide_12", r".*slide_12.h5 has no dataset 'features'; it has 'coords'")


def test_slides_of_different_width_are_named(tmp_path, slides, labels):
    slides["slide_5"] = (np.zeros((5, 9), np.float32), slides["slide_5"][1])
    for name, (features, coords) in slides.items():
        write_h5(tmp_path / "features" / f"{name}.h5", features, coords)
    words = r"'slide_1' has 8 columns \(2 slides\), 'slide_5' has 9 columns \(1 slide\); all slides must come from one encoder"
    one_line(tmp_path, labels, ValueError, rf"^features in .*features come from more than one extraction: {words}")


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_value_that_is_no_number_is_named_with_bag_and_column(tmp_path, slides, labels, value):
    slides["slide_5"][0][3, 6] = value
    for name, (features, coords) in slides.items():
        write_h5(tmp_path / "features" / f"{name}.h5", features, coords)
    bad_file(tmp_path, labels, "slide_5", rf"bag 'slide_5' in .*slide_5.h5 has {value} in column 6 \(row 3\).*")


def test_a_bag_without_an_instance_is_named(tmp_path, slides, labels):
    slides["slide_1"] = (np.zeros((0, 8), np.float32), np.zeros((0, 2), int))
    for name, (features, coords) in slides.items():
        write_h5(tmp_path / "features" / f"{name}.h5", features, coords)
    reason = r"features in .*slide_1.h5 are float32 \(0, 8\), expected numbers \(tiles, features\)"
    bad_file(tmp_path, labels, "slide_1", reason)


@pytest.mark.parametrize("shape", [(0,), (0, 0), (12, 0), (12,), (0, 8), ()])
def test_a_slide_without_a_table_of_features_is_named_among_all_and_can_be_skipped(tmp_path, slides, labels, shape):
    for name, (features, _) in slides.items():
        write_h5(tmp_path / "features" / f"{name}.h5", features)
    write_h5(tmp_path / "features/slide_1.h5", np.zeros(shape, np.float32))
    (tmp_path / "features/slide_5.h5").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"^2 of 3 bags in .* cannot be read: 'slide_1' .*'slide_5' "):
        build(tmp_path, labels)
    assert len(build(tmp_path, labels, on_error="skip")) == 1


def test_features_and_coordinates_must_match(tmp_path, slides, labels):
    for name, (features, coords) in slides.items():
        write_h5(tmp_path / "features" / f"{name}.h5", features, coords[:-1] if name == "slide_5" else coords)
    reason = r"coords in .*slide_5.h5 are \(4, 2\), expected \(5, 2\) to match the features"
    bad_file(tmp_path, labels, "slide_5", reason)


def test_missing_slides_and_labels_are_named(tmp_path, slides, labels):
    for name, (features, coords) in slides.items():
        if name != "slide_1":
            write_h5(tmp_path / "features" / f"{name}.h5", features, coords)
    one_line(
        tmp_path, labels, FileNotFoundError, r"^1 of 3 bags in .* have no features in .* \(first: 'slide_1'\); add what"
    )
    assert len(build(tmp_path, labels, on_mismatch="skip")) == 2
    one_line(tmp_path, tmp_path / "no.csv", FileNotFoundError, r"^no label table at .*no.csv; set data.labels=CSV")


def test_no_features_say_what_to_put_there(tmp_path, labels):
    one_line(
        tmp_path, labels, FileNotFoundError, r"^no .h5 or .pt files at .*features; set data.path=FOLDER with one file"
    )


def test_a_damaged_file_is_named(tmp_path, slides, labels):
    for name, (features, coords) in slides.items():
        write_h5(tmp_path / "features" / f"{name}.h5", features, coords)
    path = tmp_path / "features" / "slide_12.h5"
    path.write_bytes(path.read_bytes()[:300])
    bad_file(tmp_path, labels, "slide_12", r".*slide_12.h5 is not an HDF5 file, or is damaged.*")


def test_code_in_a_tensor_file_is_never_run(tmp_path, slides, labels):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    (tmp_path / "features").mkdir()
    for name in slides:
        torch.save(Evil(), tmp_path / "features" / f"{name}.pt")
    reason = r"'slide_1' \(.*\.pt contains no tensor, contains code, or is damaged.*'slide_12' \(.*'slide_5' \("
    one_line(tmp_path, labels, ValueError, rf"^3 of 3 bags in .* cannot be read: {reason}")
    assert not (tmp_path / "executed").exists()


def test_a_link_to_another_file_is_refused(tmp_path, slides, labels):
    for name, (features, coords) in slides.items():
        write_h5(tmp_path / "features" / f"{name}.h5", features, coords)
    (tmp_path / "secret.bin").write_bytes(bytes(12 * 8 * 4))
    with h5py.File(tmp_path / "features" / "slide_12.h5", "w") as file:
        file.create_dataset("features", (12, 8), "f4", external=[(str(tmp_path / "secret.bin"), 0, 12 * 8 * 4)])
    bad_file(tmp_path, labels, "slide_12", r".*slide_12.h5 links to data outside of the file, which is refused")


def test_an_unknown_type_is_refused(tmp_path, labels):
    with pytest.raises(ValueError, match=re.escape("data.dtype is 'int8'; it must be one of float16, float32")):
        FeatureBags(tmp_path, labels, dtype="int8")


def link_external(file, features, coords, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["features"] = features
    file["features"] = h5py.ExternalLink(str(folder / "other.h5"), "features")
    file["coords"] = coords


def link_softly_through_another_file(file, features, coords, folder):
    link_external(file, features, coords, folder)
    del file["features"]
    file["there"] = h5py.ExternalLink(str(folder / "other.h5"), "/")
    file["features"] = h5py.SoftLink("/there/features")


def link_coords(file, features, coords, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["coords"] = coords
    file["features"] = features
    file["coords"] = h5py.ExternalLink(str(folder / "other.h5"), "coords")


def link_nowhere(file, features, coords, folder):
    file["features"] = h5py.ExternalLink("/nowhere.h5", "features")


def make_virtual(file, features, coords, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["features"] = features
    layout = h5py.VirtualLayout(features.shape, features.dtype)
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "features", features.shape)
    file.create_virtual_dataset("features", layout)


@pytest.mark.parametrize(
    "write", [link_external, link_softly_through_another_file, link_coords, link_nowhere, make_virtual]
)
def test_no_way_to_another_file_is_followed(tmp_path, slides, labels, write):
    for name, (features, coords) in slides.items():
        write_h5(tmp_path / "features" / f"{name}.h5", features, coords)
    with h5py.File(tmp_path / "features" / "slide_12.h5", "w") as file:
        write(file, *slides["slide_12"], tmp_path)
    bad_file(tmp_path, labels, "slide_12", r".*slide_12.h5 links to data outside of the file, which is refused")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("suffix", ["h5", "pt"])
def test_coordinates_that_are_no_numbers_of_pixels_are_named(tmp_path, slides, labels, value, suffix):
    for name, (features, coords) in slides.items():
        if name == "slide_12":
            coords = coords.astype(np.float64)
            coords[3, 1] = value
        if suffix == "h5":
            write_h5(tmp_path / "features" / f"{name}.h5", features, coords)
        else:
            (tmp_path / "features").mkdir(exist_ok=True)
            content = {"features": torch.from_numpy(features), "coords": torch.from_numpy(coords)}
            torch.save(content, tmp_path / "features" / f"{name}.pt")
    bad_file(
        tmp_path, labels, "slide_12", rf"coords in .*slide_12.{suffix} have {re.escape(str(value))} as y of tile 3.*"
    )


@pytest.mark.parametrize("value", [np.nan, 0, -1, "large"])
def test_a_tile_size_that_is_no_number_of_pixels_is_named(tmp_path, slides, labels, value):
    for name, (features, coords) in slides.items():
        write_h5(tmp_path / "features" / f"{name}.h5", features, coords, value)
    reason = r"patch_size_level0 of coords in .*\.h5 is .*, expected pixels of level 0"
    one_line(tmp_path, labels, ValueError, rf"^3 of 3 bags in .* cannot be read: 'slide_1' \({reason}\)")


@pytest.mark.parametrize("value", [np.nan, 0.0, -256.0, "256 um", [256.0, 128.0]])
@pytest.mark.parametrize("name", ["tile_size_um", "tile_size"])
def test_a_tile_size_that_is_no_number_of_microns_is_named(tmp_path, slides, labels, name, value):
    size = {"tile_size_um": None, name: value}
    for slide, (features, coords) in slides.items():
        write_stamp(tmp_path / f"features/{slide}.h5", features, coords, **(size if slide == "slide_5" else {}))
    bad_file(
        tmp_path, labels, "slide_5",
        rf"{name} of .*slide_5.h5 is \[.*\], expected the side of a tile in microns as one number; write it again, or "
        "delete the attribute to leave out the positions",
    )  # fmt: skip


def test_what_trident_says_about_encoder_and_tiles_is_kept(tmp_path, slides, labels):
    for name, (features, coords) in slides.items():
        write_trident(tmp_path / f"features/features_uni_v2/{name}.h5", features, coords)
        write_h5(tmp_path / f"features/patches/{name}_patches.h5", None, coords)
    store = build(tmp_path, labels)
    check(store, slides)
    wanted = {"name": "uni_v2", "embedding_dim": 8, "tile_size": 256, "microns_per_pixel": 0.5}
    assert store.description["encoder"] == wanted | {"magnification": 20}
    assert store.description["tiling"] == {"rule": "features", "tile_size_level0": 512}
    rows = store.tiles_table
    assert rows["x0"].equals(rows["x"])
    assert set(rows["size0"]) == {512}


def test_stamp_writes_other_names_and_microns(tmp_path, slides, labels):
    for name, (features, coords) in slides.items():
        write_stamp(tmp_path / f"features/uni2-0a1b2c3d/cohort/{name}.h5", features, coords)
    store = build(tmp_path, labels)
    microns = 256 / 224
    wanted = {"name": "uni2", "embedding_dim": 8, "tile_size": 224, "microns_per_pixel": microns}
    assert store.description["encoder"] == wanted
    for index, name in enumerate(store.bags["bag_id"]):
        where = store.tile_slice(index)
        np.testing.assert_array_equal(store.tiles[where], slides[name][0].astype(np.float16))
        # Pixels of the tiles; level 0 of the slide is not known.
        np.testing.assert_allclose(store.tiles_table[where][["x", "y"]], slides[name][1] / microns, rtol=1e-6)
    assert not {"level", "x0", "y0", "size0"} & set(store.tiles_table.columns)
    assert store.description["microns_per_pixel"] == microns


def test_files_of_early_versions_of_stamp_have_no_known_positions(tmp_path, slides, labels):
    nothing = dict.fromkeys(("stamp_version", "extractor", "unit", "tile_size_um", "tile_size_px", "feat_type"))
    for name, (features, coords) in slides.items():
        write_stamp(tmp_path / f"features/{name}.h5", features, coords, **nothing)
    store = build(tmp_path, labels)
    assert store.tiles_table.columns.tolist() == ["bag_id"]
    assert store.description["encoder"] == {"embedding_dim": 8}


def test_features_of_a_whole_slide_are_no_tiles(tmp_path, slides, labels):
    for name, (features, coords) in slides.items():
        write_stamp(
            tmp_path / f"features/{name}.h5", features, coords, feat_type="slide" if name == "slide_5" else "tile"
        )
    bad_file(tmp_path, labels, "slide_5", r".*slide_5.h5 has features of a whole slide, expected one row per tile .*")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"encoder": "conch_v1"},
            r"'slide_1' has encoder uni_v2 \(2 slides\), 'slide_5' has encoder conch_v1 \(1 slide\)",
        ),
        ({"patch_size": 512}, r"'slide_1' has tiles of 256 px \(2 slides\), 'slide_5' has tiles of 512 px \(1 slide\)"),
        ({"target_magnification": 10}, r"'slide_1' has 0.5 microns .* \(2 slides\), 'slide_5' has 1 microns per pixel"),
    ],
)
def test_features_of_two_extractions_are_refused_with_both(tmp_path, slides, labels, change, words):
    for name, (features, coords) in slides.items():
        write_trident(tmp_path / f"features/{name}.h5", features, coords, **(change if name == "slide_5" else {}))
    one_line(tmp_path, labels, ValueError, rf"^features in .*features come from more than one extraction: {words}")
    # Neither is a damaged file, which could be skipped.
    one_line(tmp_path, labels, ValueError, words, on_error="skip")
    assert [path for path in (tmp_path / "stores").iterdir() if path.is_dir()] == []


def test_slides_scanned_at_different_magnifications_belong_together(tmp_path, slides, labels):
    for name, (features, coords) in slides.items():
        scan = {"level0_magnification": 20 if name == "slide_5" else 40}
        write_trident(tmp_path / f"features/{name}.h5", features, coords, **scan)
    store = build(tmp_path, labels)
    sizes = store.tiles_table.groupby("bag_id")["size0"].first().to_dict()
    assert sizes == {"slide_1": 512, "slide_12": 512, "slide_5": 256}


def test_unequal_sizes_at_level_0_without_their_magnification_are_refused(tmp_path, slides, labels):
    for name, (features, coords) in slides.items():
        write_h5(tmp_path / f"features/{name}.h5", features, coords, 256 if name == "slide_5" else 512)
    words = (
        r"'slide_1' has tiles of 512 px at level 0 \(2 slides\), 'slide_5' has tiles of 256 px at level 0 \(1 slide\)"
    )
    one_line(tmp_path, labels, ValueError, rf"^features in .* come from more than one extraction: {words}")


def test_more_slides_than_open_files_are_allowed(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    names = [f"s{number:03d}" for number in range(300)]
    for number, name in enumerate(names):
        if number % 3:
            write_h5(tmp_path / f"features/{name}.h5", np.full((1, 4), number, np.float32), np.zeros((1, 2), int))
        else:
            (tmp_path / "features").mkdir(exist_ok=True)
            content = {"features": torch.full((1, 4), float(number)), "coords": torch.zeros(1, 2, dtype=torch.int64)}
            torch.save(content, tmp_path / f"features/{name}.pt")
    (tmp_path / "labels.csv").write_text(
        "slide_id,label\n" + "".join(f"{name},{n % 2}\n" for n, name in enumerate(names))
    )
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 128), hard))
        store = build(tmp_path, tmp_path / "labels.csv")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    np.testing.assert_array_equal(store.tiles[:, 0], np.arange(300))


def test_a_dataset_of_a_size_that_no_slide_has_is_refused(tmp_path, slides, labels):
    for name, (features, coords) in slides.items():
        write_h5(tmp_path / "features" / f"{name}.h5", features, coords)
    with h5py.File(tmp_path / "features/slide_12.h5", "w") as file:
        file.create_dataset("features", (2**22, 2**11), "f4", chunks=(1, 2**11))  # 32 GB that take no room on disk
    bad_file(
        tmp_path, labels, "slide_12", r"features in .*slide_12.h5 are \(4194304, 2048\), more than a slide can have"
    )

import pytest

from milpath.slides.tile_names import first_number, missing_number, require_tiles_of_one_slide


@pytest.mark.parametrize(
    "names",
    [
        ["a_1.png", "a_01.png"], ["a_1.png", "A_1.PNG"], ["x/a_1.png", "y/a_1.png"], ["\u00e4.png", "a\u0308.png"],
        ["tile 1.png", "tile 01.png"], ["7.png", "007.png"],
    ],
)  # fmt: skip
def test_two_names_of_one_tile_are_refused_and_both_are_named(names):
    with pytest.raises(
        ValueError, match="^the zip contains .* which are the same name or number for many programs"
    ) as caught:
        require_tiles_of_one_slide(names, "the zip")
    assert all(repr(name) in str(caught.value) for name in names)


@pytest.mark.parametrize(("numbers", "missing"), [((0, 1, 3), 2), ((2, 3), 1), ((0, 2, 3), 1), ((1, 2, 4), 3)])
def test_a_gap_is_refused_by_its_number(numbers, missing):
    with pytest.raises(ValueError, match=f"none with the number {missing}; give all of them"):
        require_tiles_of_one_slide([f"a_{number}.png" for number in numbers], "the zip")


def test_whole_slides_names_without_numbers_and_coordinates_pass():
    require_tiles_of_one_slide([f"a_{number}.png" for number in range(12)], "the zip")
    require_tiles_of_one_slide([f"a_{number}.png" for number in range(1, 12)], "the zip")
    require_tiles_of_one_slide(["left.png", "right.png", "tile_9.png"], "the zip")
    require_tiles_of_one_slide(["a_512_0.png", "a_1024_256.png"], "the zip")


def test_numbers_begin_at_one_where_no_slide_has_a_zero():
    assert first_number([{1, 2}, {1}]) == 1
    assert first_number([{1, 2}, {0}]) == 0
    assert missing_number({1, 2}, 0) == 0

import random
import zipfile

import pytest
import torch

from milpath.models import AttentionMIL, load_card, load_network, save_network
from milpath.models.checkpoint import read_checkpoint, update_card
from milpath.models.weights_digest import digest_of, require_whole_archive


@pytest.fixture
def path(tmp_path):
    network = AttentionMIL(encoder={"name": "linear", "num_features": 4, "hidden_dims": [8]})
    save_network(network, tmp_path / "best.ckpt", class_names=("benign", "malignant"), threshold=0.3)
    return tmp_path / "best.ckpt"


def change_weight(content):
    content["state_dict"]["network.classification_layer.bias"] += 1e-6


def swap_shape(content):
    content["state_dict"]["network.attention.w.weight"] = torch.zeros(1)


EDITS = {
    "a threshold": (lambda content: content["milpath"].update(threshold=0.4), "its card was changed"),
    "names of classes": (lambda content: content["milpath"].update(class_names=["b", "a"]), "its card was changed"),
    "a field more": (lambda content: content["milpath"].update(note="x"), "its card was changed"),
    "a weight": (change_weight, "its weights were changed"),
    "a weight more": (lambda content: content["state_dict"].update(x=torch.ones(1)), "its weights were changed"),
    "a part more": (lambda content: content.update(loops={}), "its part 'loops' was added or removed"),
    "no digest of a part": (
        lambda content: content["milpath"]["digests"].pop("state_dict"),
        "'state_dict' was added or",
    ),
    "digests of nothing": (lambda content: content["milpath"].update(digests=3), "the digests in its card"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_by_another_program_is_refused_and_the_part_named(path, name):
    edit, message = EDITS[name]
    content = torch.load(path, weights_only=True)
    edit(content)
    torch.save(content, path)
    for load in (load_network, load_card, lambda path: update_card(path, temperature=2.0)):
        with pytest.raises(ValueError, match=message) as caught:
            load(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


def test_a_checkpoint_of_version_0_1_0_is_read_as_before(path):
    expected = load_network(path).state_dict()
    content = torch.load(path, weights_only=True)
    del content["milpath"]["digests"]
    torch.save(content, path)
    for name, value in load_network(path).state_dict().items():
        assert torch.equal(value, expected[name])
    update_card(path, temperature=2.0)
    assert set(torch.load(path, weights_only=True)["milpath"]["digests"]) == {"milpath", "state_dict"}


def test_a_flipped_bit_is_refused_also_in_a_checkpoint_without_digests(path, tmp_path):
    content = torch.load(path, weights_only=True)
    del content["milpath"]["digests"]
    torch.save(content, path)
    whole, rng = path.read_bytes(), random.Random(0)
    expected, refused = digest_of(content), 0
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        (tmp_path / "damaged.ckpt").write_bytes(damaged)
        try:
            assert digest_of(read_checkpoint(tmp_path / "damaged.ckpt")) == expected
        except ValueError as error:
            refused += "\n" not in str(error)
    assert refused > 50


def test_the_message_names_the_damaged_member(path):
    with zipfile.ZipFile(path) as archive:
        member = next(info for info in archive.infolist() if info.filename.endswith("data/0"))
    content = bytearray(path.read_bytes())
    content[content.index(member.filename.encode()) + 80] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"best\.ckpt was changed after it was written: .* member '.*/data/0'"):
        load_network(path)


def test_two_members_of_one_name_are_refused(path):
    with zipfile.ZipFile(path) as archive:
        name = next(info.filename for info in archive.infolist() if info.filename.endswith("data/0"))
        data = archive.read(name)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, data[::-1])
    with pytest.raises(ValueError, match="two members of the same name"):
        load_network(path)


def test_a_digest_knows_values_types_and_shapes_but_no_order_of_keys_or_memory():
    values = [
        0, 1, 1.0, True, False, None, "1", b"1", -0.0, 0.0, [], {}, [[]], [1, 2], ["1", "2"], ["12"], {"a": 1}, {1: "a"},
        torch.zeros(2), torch.zeros(2, 1), torch.zeros(1, 2), torch.zeros(2, dtype=torch.int32),
        torch.zeros(2, dtype=torch.bfloat16), torch.tensor(0.0), torch.zeros(0), torch.zeros(0, 2), torch.tensor(True),
        torch.ones(1).expand(2), torch.ones(1).expand(3), torch.full((1,), 2.0).expand(3),
    ]  # fmt: skip
    digests = [digest_of(value) for value in values]
    assert len(set(digests)) == len(digests)
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    weights = torch.rand(2, 3, 4, 5)
    assert digest_of(weights.to(memory_format=torch.channels_last)) == digest_of(weights)
    assert digest_of(float("nan")) == digest_of(float("nan"))


def test_an_archive_of_another_kind_is_no_checkpoint(tmp_path):
    (tmp_path / "x.ckpt").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ValueError, match="not a milpath checkpoint, or it is truncated"):
        require_whole_archive(tmp_path / "x.ckpt")


def test_a_file_whose_list_of_members_is_damaged_is_named(path):
    whole, draw, refused = path.read_bytes(), random.Random(0), []
    for _ in range(300):
        damaged = bytearray(whole)
        for place in draw.choices(range(whole.index(b"PK\x01\x02"), len(whole)), k=2):
            damaged[place] = draw.choice((0, 128, 255))
        path.write_bytes(damaged)
        try:
            require_whole_archive(path)  # some changes are of no consequence
        except ValueError as error:
            refused.append(str(error))
    assert len(refused) > 100
    assert [text for text in refused if not text.startswith(f"{path} ")] == []


def test_a_card_nested_without_end_is_one_line(path):
    content = torch.load(path, weights_only=True)
    nested: list = []
    for _ in range(300):
        nested = [nested]
    content["milpath"]["data"] = {"deep": nested}
    torch.save(content, path)
    with pytest.raises(ValueError, match="its card was changed"):
        load_card(path)

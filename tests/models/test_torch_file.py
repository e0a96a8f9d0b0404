"""Files of torch.save that would take more memory than they have bytes, or hold what no network has."""

import struct
import zipfile
import zlib

import pytest
import torch

from milpath.data.sources.features.feature_files import read_features
from milpath.models import AttentionMIL, load_network, save_network
from milpath.models.checkpoint import read_checkpoint
from milpath.models.encoders.weights_file import read_weights
from milpath.models.torch_file import load_plain

TENSORS = {
    "sparse": lambda: torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.long), torch.ones(1), (10**6, 10**6)),
    "compressed rows": lambda: torch.eye(3).to_sparse_csr(),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "without values": lambda: torch.empty(3, device="meta"),
    "complex": lambda: torch.ones(3, dtype=torch.complex64),
    "of 8 bits": lambda: torch.ones(3).to(torch.float8_e4m3fn),
}


@pytest.fixture
def checkpoint(tmp_path):
    network = AttentionMIL(encoder={"name": "tile_cnn", "tile_size": 32, "embedding_dim": 8})
    save_network(network, tmp_path / "network.pt")
    return tmp_path / "network.pt"


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("place", ["weights", "another part", "digests"])
@pytest.mark.parametrize("kind", TENSORS)
def test_a_tensor_that_no_network_has_is_refused_wherever_it_is(checkpoint, kind, place):
    content = read_checkpoint(checkpoint)
    content["milpath"].pop("digests")
    if place == "weights":
        content["state_dict"] = {"network.x": TENSORS[kind]()} | content["state_dict"]
    else:
        content["other"] = [{"a": (TENSORS[kind](),)}]
    if place == "digests":
        content["milpath"]["digests"] = {"other": "0", **dict.fromkeys(content, "0")}
    torch.save(content, checkpoint)
    with pytest.raises(ValueError, match=r"network.pt is not a milpath checkpoint: it has a sparse, nested"):
        load_network(checkpoint)


def test_a_weight_whose_name_is_a_number_is_refused(checkpoint):
    content = read_checkpoint(checkpoint)
    content["state_dict"][3] = torch.ones(1)
    torch.save(content, checkpoint)
    with pytest.raises(ValueError, match="has a card but no weights"):
        load_network(checkpoint)


def test_an_archive_that_places_its_members_before_its_beginning_is_torch_s_to_refuse(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.ones(3)}, path)
    content = bytearray(path.read_bytes())
    # As for a list of members that lies 4 bytes further on, so that each lies 4 bytes further back.
    for end, at, form in ((b"PK\x05\x06", 16, "<L"), (b"PK\x06\x06", 48, "<Q")):
        if (place := content.rfind(end)) >= 0:
            (offset,) = struct.unpack_from(form, content, place + at)
            if offset != 0xFFFFFFFF:
                struct.pack_into(form, content, place + at, offset + 4)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="weights.pth") as refused:
        read_weights(path)
    assert "\n" not in str(refused.value)


def test_a_list_that_contains_itself_has_an_end(checkpoint):
    content = read_checkpoint(checkpoint)
    content["other"] = []
    content["other"].append(content["other"])
    torch.save(content, checkpoint)
    with pytest.raises(ValueError, match="its part 'other' was added"):
        load_network(checkpoint)


def compressed(path, to):
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(f"{to.stem}/{name.partition('/')[2]}", old.read(name))
    return to


def test_a_compressed_file_is_refused_before_it_is_unpacked(checkpoint, tmp_path):
    torch.save({"features": torch.zeros(1000, 1000)}, tmp_path / "large.pt")
    path = compressed(tmp_path / "large.pt", tmp_path / "small.pt")
    assert path.stat().st_size < 10_000
    for read in (load_plain, read_features, read_weights):
        with pytest.raises(ValueError, match="it is compressed, which torch.save never does; save it again"):
            read(path)
    with pytest.raises(ValueError, match="cannot be read: it is not a milpath checkpoint"):
        load_network(compressed(checkpoint, tmp_path / "network_2.pt"))


@pytest.mark.parametrize("archive", [True, False, "with another checksum"])
def test_an_array_of_as_many_bytes_as_a_number_says_is_not_made(archive, tmp_path):
    code = b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x40\x85R."  # bytearray(256 GiB)
    path = tmp_path / "a.pt"
    if archive:
        with zipfile.ZipFile(path, "w") as file:
            for name, content in (("data.pkl", code), ("version", "3\n"), ("byteorder", "little")):
                file.writestr(f"a/{name}", content)
        if archive is not True:  # which torch does not compare
            path.write_bytes(path.read_bytes().replace(struct.pack("<L", zlib.crc32(code)), b"\0\0\0\0"))
    else:
        path.write_bytes(code)
    for read in (load_plain, read_features, read_weights):
        with pytest.raises(ValueError, match="it states an array of bytes"):
            read(path)


def test_an_archive_that_is_damaged_is_not_left_to_torch(tmp_path):
    torch.save(torch.ones(2, 3), tmp_path / "a.pt")
    whole = (tmp_path / "a.pt").read_bytes()
    for damaged in (whole[:-30], whole.replace(b"PK\5\6", b"PK\5\7"), whole.replace(b"PK\1\2", b"PK\1\3")):
        (tmp_path / "a.pt").write_bytes(damaged)
        with pytest.raises(ValueError, match="it is a damaged archive"):
            load_plain(tmp_path / "a.pt")


def test_an_archive_without_checksums_is_read(tmp_path):
    torch.save(torch.ones(2, 3), tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as file:
        sums = [struct.pack("<L", member.CRC) for member in file.infolist()]
    content = (tmp_path / "a.pt").read_bytes()
    for each in sums:  # as torch.serialization.set_crc32_options(False) writes it
        content = content.replace(each, b"\0\0\0\0")
    (tmp_path / "a.pt").write_bytes(content)
    assert read_features(tmp_path / "a.pt").features.shape == (2, 3)


def test_files_of_before_archives_and_empty_ones_are_read_and_refused_as_ever(tmp_path):
    torch.save(torch.ones(2, 3), tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    assert read_features(tmp_path / "a.pt").features.shape == (2, 3)
    (tmp_path / "a.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="contains no tensor"):
        read_features(tmp_path / "a.pt")

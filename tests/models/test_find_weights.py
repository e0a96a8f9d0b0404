"""Where weights are looked for, and what is said when they are not there."""

import http.server
import sys
import threading

import pytest
import torch

from milpath.models.encoders import encoder_card, open_encoder
from milpath.models.encoders.find_weights import find_weights, present_weights

hub = pytest.importorskip("huggingface_hub", reason="comes with the extra backbones")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty Hugging Face cache."""
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def server(monkeypatch):
    """A hub on this machine: one repository is gated, none has a file; returns the paths that were asked for."""
    asked = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            gated = "UNI" in self.path
            self.send_response(403 if gated else 404)
            self.send_header("X-Error-Code", "GatedRepo" if gated else "EntryNotFound")
            self.send_header("X-Repo-Commit", "a" * 40)
            self.end_headers()

        do_GET = do_HEAD  # noqa: N815

        def log_message(self, *arguments):
            pass

    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{served.server_port}"
    monkeypatch.setattr(hub.constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    yield asked
    served.shutdown()
    served.server_close()


def cached(cache, repository: str, name: str) -> str:
    """Write a file into the cache as the hub's client does."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("a" * 40)
    path = folder / "snapshots" / ("a" * 40) / name
    path.parent.mkdir(parents=True)
    torch.save({"a": torch.ones(1)}, path)
    return str(path)


def test_the_file_of_the_user_comes_first_then_the_folder_then_the_cache(tmp_path, cache):
    card = encoder_card("uni")
    in_cache = cached(cache, "MahmoodLab/UNI", "pytorch_model.bin")
    folder = tmp_path / "weights"
    folder.mkdir()
    mine = tmp_path / "mine.pth"
    mine.write_bytes(b"")
    assert str(find_weights(card, weights_dir=str(folder))) == in_cache
    (folder / "uni.pth").write_bytes(b"")
    assert find_weights(card, weights_dir=str(folder)) == folder / "uni.pth"
    assert find_weights(card, str(mine), str(folder)) == mine


@pytest.mark.parametrize(
    "name", ["uni.safetensors", "uni.bin", "uni/model.safetensors", "uni/pytorch_model.bin", "uni/uni.pth"]
)
def test_a_folder_of_weights_holds_files_by_name_or_as_published(name, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"")
    assert present_weights(encoder_card("uni"), str(tmp_path)) == tmp_path / name


def test_safetensors_is_preferred(tmp_path, cache):
    card = encoder_card("uni")
    for name in ("pytorch_model.bin", "model.safetensors"):
        (tmp_path / "uni").mkdir(exist_ok=True)
        (tmp_path / "uni" / name).write_bytes(b"")
    assert find_weights(card, weights_dir=str(tmp_path)).name == "model.safetensors"
    assert find_weights(card, str(tmp_path / "uni")).name == "model.safetensors"


def test_missing_weights_say_in_one_line_where_to_put_them_and_who_grants_access(server):
    with pytest.raises(FileNotFoundError) as caught:
        open_encoder("uni2_h")
    message = str(caught.value)
    assert "no weights of uni2_h on this machine: ask for access at https://huggingface.co/MahmoodLab/UNI2-h" in message
    assert "$MILPATH_WEIGHTS/uni2_h/" in message
    assert "weights_path=FILE" in message
    assert "\n" not in message
    with pytest.raises(FileNotFoundError, match=r"give download=true, or get model.safetensors .* \(MIT\) and put"):
        open_encoder("midnight")
    with pytest.raises(
        FileNotFoundError, match=r"machine: get ctranspath.pth from https://github.com/Xiyue-Wang/TransPath"
    ):
        open_encoder("ctranspath", download=True)
    assert server == []  # nothing is asked of the hub unless it is allowed


def test_a_path_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"weights_path=.*none\.pth does not exist"):
        open_encoder("uni", weights_path=str(tmp_path / "none.pth"))
    with pytest.raises(FileNotFoundError, match="is a folder without model.safetensors or pytorch_model.bin"):
        open_encoder("uni", weights_path=str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"the folder of weights .*none does not exist"):
        open_encoder("uni", weights_dir=str(tmp_path / "none"))


def test_a_gated_repository_says_where_to_ask(server):
    with pytest.raises(ValueError, match="has not granted you access to uni: ask for access at"):
        open_encoder("uni", download=True)
    assert [path for path in server if "/resolve/" in path] == ["/MahmoodLab/UNI/resolve/main/model.safetensors"]


def test_only_the_named_files_are_asked_for(server):
    with pytest.raises(ValueError, match="could not be downloaded from https://huggingface.co/owkin/phikon") as caught:
        open_encoder("phikon", download=True)
    assert "\n" not in str(caught.value)
    assert [path for path in server if "/resolve/" in path] == [
        "/owkin/phikon/resolve/main/model.safetensors",
        "/owkin/phikon/resolve/main/pytorch_model.bin",
    ]


def test_weights_of_a_package_need_no_download():
    assert present_weights(encoder_card("efficientnet_lite0")).is_file()


def test_a_missing_package_says_how_to_install_it(tmp_path, monkeypatch):
    (tmp_path / "uni.pth").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert present_weights(encoder_card("uni"), str(tmp_path)) == tmp_path / "uni.pth"
    assert present_weights(encoder_card("phikon"), str(tmp_path)) is None  # the list of encoders needs no package
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"needs the package timm: pip install 'milpath\[backbones\]'"):
        open_encoder("uni", weights_path=str(tmp_path / "uni.pth"))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"needs the package onnxruntime: pip install 'milpath\[onnx\]'"):
        open_encoder({"name": "a", "library": "onnx", "tile_size": 8}, weights_path=str(tmp_path / "uni.pth"))

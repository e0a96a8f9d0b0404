"""Coverage-guided fuzzing of request parsing. Needs `pip install atheris`.

usage: python scripts/sagemaker/fuzz_atheris.py -runs=10000 [options of libFuzzer]
"""

import contextlib
import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
with atheris.instrument_imports(include=["milpath.sagemaker"]):
    from milpath.sagemaker.endpoint.handlers import NETWORK_FILE, Endpoint
    from milpath.sagemaker.endpoint.input_spec import InputSpec
    from milpath.sagemaker.endpoint.request_body import CONTENT_TYPES, BodyReader
    from milpath.sagemaker.endpoint.request_limits import BadRequestError, Limits

from served import write_network

from tests.sagemaker.malformed import seeds


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_network(folder / "model", tile_size=32, embedding_dim=16)
        endpoint = Endpoint(folder / "model" / NETWORK_FILE)
        reader = BodyReader(InputSpec(3, 32, None), endpoint.card, Limits())
        (folder / "corpus").mkdir()
        for number, (body, kind) in enumerate(seeds()):
            (folder / "corpus" / str(number)).write_bytes(bytes([CONTENT_TYPES.index(kind)]) + body)

        def one(data: bytes) -> None:
            if data:
                with contextlib.suppress(BadRequestError):
                    reader.read(data[1:], CONTENT_TYPES[data[0] % len(CONTENT_TYPES)])

        atheris.Setup([sys.argv[0], str(folder / "corpus"), "-max_len=20000", *sys.argv[1:]], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

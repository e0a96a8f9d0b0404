"""Send malformed bodies to a real server: no status of 500 or above, every error in one line, constant memory.

usage: python scripts/sagemaker/fuzz.py [--bodies 10000] [--seed 0]
Half of the bodies are mutated valid ones, half come from hypothesis. scripts/sagemaker/fuzz_atheris.py uses coverage.
"""

import argparse
import json
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from served import memory_mb, served, write_network

from tests.sagemaker.malformed import CONTENT_TYPES, malformed, seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bodies", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()
    statuses: Counter[int] = Counter()
    memory = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        write_network(Path(folder), tile_size=32, embedding_dim=16)
        with served(Path(folder), port=18081) as (address, pid):

            def send(body: bytes, kind: str) -> None:
                status, answer = post(address, body, kind)
                statuses[status] += 1
                if sum(statuses.values()) % 250 == 0:
                    memory.append(memory_mb(pid))
                if status != 200:
                    assert 400 <= status < 500, (status, kind, body[:200], answer[:500])
                    assert b"\n" not in answer, answer
                    assert json.loads(answer)["error"], answer

            for body, kind in malformed(words.bodies // 2, words.seed):
                send(body, kind)

            good = st.sampled_from([body for body, _ in seeds()])
            pieces = st.lists(
                st.one_of(
                    st.binary(max_size=300),
                    st.builds(lambda body, a, b: body[a : a + b], good, st.integers(0, 7000), st.integers(0, 7000)),
                ),
                max_size=4,
            ).map(b"".join)
            numbers = st.one_of(st.integers(), st.floats(), st.text(), st.none(), st.booleans())
            trees = st.recursive(numbers, lambda x: st.lists(x) | st.dictionaries(st.text(), x), max_leaves=6)
            keys = st.sampled_from(["npy", "tiles", "slide", "bags", "s3_uri", "content_type", "other"])
            texts = st.dictionaries(keys, trees, max_size=4).map(lambda content: json.dumps(content).encode())

            @seed(words.seed)
            @settings(
                max_examples=words.bodies - words.bodies // 2, deadline=None, database=None, phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            @given(
                st.one_of(
                    st.tuples(pieces, st.sampled_from(CONTENT_TYPES)), st.tuples(texts, st.just("application/json"))
                )
            )
            def by_hypothesis(pair: tuple[bytes, str]) -> None:
                send(*pair)

            by_hypothesis()
            alive, _ = post(address, seeds()[0][0], seeds()[0][1])
    assert alive == 200
    quarter = len(memory) // 4
    print(
        f"{sum(statuses.values())} bodies in {time.monotonic() - started:.0f} s: {dict(sorted(statuses.items()))}; memory "
        f"{memory[quarter]:.0f} MB after a quarter, {memory[-1]:.0f} MB at the end (largest {max(memory):.0f})"
    )
    assert memory[-1] < 1.1 * memory[quarter], "memory grows"


def post(address: str, body: bytes, kind: str) -> tuple[int, bytes]:
    request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


if __name__ == "__main__":
    main()

import threading
import time
from contextlib import suppress

import anyio
import pytest

from milpath.serving.work_queue import ClientLeftError, QueueFullError, WorkQueue


async def stays():
    await anyio.sleep_forever()


def leaves_after(seconds):
    async def receive():
        await anyio.sleep(seconds)
        return {"type": "http.disconnect"}

    return receive


def test_it_returns_what_the_function_returns_and_raises_what_it_raises():
    async def main():
        queue = WorkQueue(1, 1)
        assert await queue.run(lambda: 7, stays) == 7
        with pytest.raises(ValueError, match="no tiles"):
            await queue.run(lambda: _raise(ValueError("no tiles")), stays)
        assert await queue.run(lambda: 8, stays) == 8

    anyio.run(main)


def _raise(error):
    raise error


def test_one_runs_two_wait_and_the_fourth_is_refused_at_once():
    running, most, done = [], [], threading.Event()

    def work():
        running.append(1)
        most.append(len(running))
        done.wait(10)
        running.pop()
        return "done"

    async def main():
        queue = WorkQueue(1, 2)
        answers = []

        async def ask():
            answers.append(await queue.run(work, stays))

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(ask)
            await anyio.sleep(0.2)
            with anyio.fail_after(0.1), pytest.raises(QueueFullError):
                await queue.run(work, stays)
            assert queue.retry_after >= 3
            done.set()
        assert answers == ["done"] * 3
        assert await queue.run(work, stays) == "done"

    anyio.run(main)
    assert max(most) == 1


def test_who_leaves_before_his_turn_is_not_computed_and_frees_his_place():
    computed, done = [], threading.Event()

    def work(name):
        computed.append(name)
        done.wait(10)
        return name

    async def main():
        queue = WorkQueue(1, 1)
        async with anyio.create_task_group() as group:

            async def first():
                assert await queue.run(lambda: work("first"), stays) == "first"

            async def third():
                assert await queue.run(lambda: work("third"), stays) == "third"

            group.start_soon(first)
            await anyio.sleep(0.1)
            with pytest.raises(ClientLeftError):
                await queue.run(lambda: work("second"), leaves_after(0.1))
            group.start_soon(third)
            await anyio.sleep(0.1)
            done.set()

    anyio.run(main)
    assert computed == ["first", "third"]


def test_who_leaves_while_he_is_computed_keeps_his_place_until_the_end():
    ended = []

    def work():
        time.sleep(0.4)
        ended.append(time.monotonic())

    async def main():
        queue = WorkQueue(1, 1)
        with anyio.move_on_after(5):
            with suppress(ClientLeftError):
                await queue.run(work, leaves_after(0.05))
        assert len(ended) == 1

    anyio.run(main)


def test_the_time_to_ask_again_is_that_of_what_waits():
    async def main():
        queue = WorkQueue(1, 1)
        for _ in range(30):
            await queue.run(lambda: None, stays)
        return queue.retry_after

    assert anyio.run(main) == 1

import subprocess
import sys

import pytest

PROGRAM = """
import threading, time
from milpath.serving.process_end import end_process
threading.Thread(target=time.sleep, args=({seconds},)).start()
end_process()
"""


@pytest.mark.parametrize(("seconds", "status"), [(0.1, 0), (300, 1)])
def test_a_process_ends_although_a_thread_still_computes(seconds, status):
    program = PROGRAM.format(seconds=seconds)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == status
    assert ended.stderr == ("shutting down: a request was still running and is dropped\n" if status else "")

import os
import subprocess
import sys

from bench.process_cpu import cpu_seconds
from issuer_testing.deadline import wait_until

BUSY = "import time\nwhile time.process_time() < 0.3: pass\n"


def test_it_counts_descendants_that_live_and_those_that_ended() -> None:
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BUSY!r}])\nprint(1, flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        wait_until(lambda: cpu_seconds(process.pid) >= 0.2, what="the living child's time is counted", seconds=20)
        assert process.stdout is not None
        process.stdout.readline()
        assert cpu_seconds(process.pid) >= 0.25, "what ended counts on; ticks are rounded down"
        process.communicate("\n")


def test_a_process_that_is_gone_has_used_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert cpu_seconds(process.pid) == 0.0
    assert cpu_seconds(os.getpid()) > 0.0

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from graphdiff.errors import ConfigError, Interrupted, RunError
from graphdiff.experiments.workers import in_own_process, one_by_one, side_by_side
from graphdiff.models import get_model


def test_a_process_returns_its_result_or_error():
    assert in_own_process(divmod, 7, 2) == (3, 1)
    assert in_own_process(os.getpid) != os.getpid()
    with pytest.raises(RunError, match="killed by SIGKILL, most likely because memory ran out"):
        in_own_process(signal.raise_signal, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="ended with exit code 1"):
        in_own_process(int, "seven")
    with pytest.raises(ConfigError, match="no model 'nope'"):
        in_own_process(get_model, "nope")


def test_with_cuda_the_server_imports_nothing_that_could_initialise_the_driver():
    code = """
import torch
torch.cuda.is_available = lambda: True
from graphdiff.experiments.workers import in_own_process
print(in_own_process(eval, "'torch_geometric' in __import__('sys').modules"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def stop_this_process():
    raise Interrupted("stopped after epoch 3", signal.SIGTERM)


def test_a_process_that_is_stopped_says_so_without_a_traceback(capfd):
    with pytest.raises(RunError, match="its process was stopped by a signal"):
        in_own_process(stop_this_process)
    assert capfd.readouterr().err == ""


def work(seconds):
    if seconds < 0:
        raise ConfigError("time is negative")
    return in_own_process(time.sleep, seconds)


def test_work_side_by_side_is_requested_as_there_is_room():
    taken = []

    def items():
        for seconds in (0.01, -1, 0.01):
            taken.append(seconds)
            yield seconds

    found = []
    for seconds, outcome in side_by_side(work, items(), jobs=1):
        found.append((seconds, type(outcome.exception())))
        assert len(taken) == len(found)
    assert found == [(0.01, type(None)), (-1, ConfigError), (0.01, type(None))]
    assert sorted(item for item, _ in side_by_side(work, [0.3, 0.01], 2)) == [0.01, 0.3]


def test_closing_ends_what_is_running():
    finished = side_by_side(work, [0.01, 600, 600], jobs=2)
    assert next(finished)[0] == 0.01
    finished.close()  # does not wait for ten minutes
    assert not multiprocessing.active_children()


def work_later(seconds):
    if seconds > 1:
        time.sleep(2)  # As where a process waits for the imports of the fork server.
    return work(seconds)


def test_closing_ends_what_is_only_being_started():
    finished = side_by_side(work_later, [0.01, 600], jobs=2)
    assert next(finished)[0] == 0.01
    finished.close()  # does not wait for ten minutes
    assert not multiprocessing.active_children()


def test_closing_leaves_other_processes_alone():
    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    other.start()
    try:
        finished = side_by_side(work, [0.01, 600], jobs=2)
        next(finished)
        finished.close()
        assert other.is_alive()
    finally:
        other.terminate()
        other.join()


def test_one_by_one_keeps_results_and_errors_and_passes_interrupts_on():
    def invert(number):
        if number == 7:
            raise KeyboardInterrupt
        return 1 / number

    outcomes = one_by_one(invert, [2, 0, 7])
    assert next(outcomes)[1].result() == 0.5
    assert isinstance(next(outcomes)[1].exception(), ZeroDivisionError)
    with pytest.raises(KeyboardInterrupt):
        next(outcomes)

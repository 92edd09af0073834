"""Work on several threads against a plain loop."""

import threading
from collections.abc import Iterator

import pytest
import torch

from facedis_core.nn.max_pool.threads import thread_map


@pytest.fixture(params=[1, 3], ids="{} threads".format)
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """So many threads of torch, whatever the environment says."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_items(threads: int) -> None:
    rows = torch.randn(50, 3)
    found = list(thread_map(lambda row: row * 2, rows))
    assert torch.equal(torch.stack(found), rows * 2)
    assert list(thread_map(str, [])) == []


def test_every_thread_works_alone_and_the_caller_keeps_its_own(threads: int) -> None:
    barrier = threading.Barrier(threads)

    def look(_: int) -> tuple[str, int, int]:
        barrier.wait(timeout=20)  # as many at a time as there are threads
        torch.randn(300, 300) @ torch.randn(300, 300)  # torch starts its own threads here, if any
        inside = len(set(thread_map(lambda _: threading.get_ident(), range(8))))
        return threading.current_thread().name, torch.get_num_threads(), inside

    found = list(thread_map(look, range(threads)))
    assert len({name for name, *_ in found}) == threads
    assert {(number, inside) for _, number, inside in found} == {(1, 1)}
    assert torch.get_num_threads() == threads
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [threads]


def test_work_for_another_device_stays_on_this_thread(threads: int) -> None:
    found = set(thread_map(lambda _: threading.get_ident(), range(8), torch.device("meta")))
    assert found == {threading.get_ident()}


def test_what_goes_wrong_in_a_thread_reaches_the_caller(threads: int) -> None:
    with pytest.raises(ZeroDivisionError):
        list(thread_map(lambda n: 1 // n, [2, 1, 0, 3]))
    assert list(thread_map(lambda n: n + 1, range(5))) == [1, 2, 3, 4, 5]

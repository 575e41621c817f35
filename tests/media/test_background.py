"""Reading ahead and writing behind: order, bounds, errors and interruptions."""

import threading
from contextlib import closing
from threading import Event

import pytest

from ldip_jax.errors import InputError
from ldip_jax.media.background import WriteBehind, read_ahead


def numbers(count, taken=None, closed=None):
    try:
        for number in range(count):
            if taken is not None:
                taken.append(number)
            yield number
    finally:
        if closed is not None:
            closed.append(threading.current_thread().name)


def wait_for(condition):
    """Wait until a condition holds; pytest's own limit ends a test that waits for ever."""
    pause = Event()
    while not condition():
        pause.wait(0.001)


def threads():
    return {thread.name for thread in threading.enumerate()} & {"reader", "writer"}


@pytest.mark.parametrize("most", [0, 1, 3, 100])
def test_items_come_in_order_and_the_thread_ends(most):
    closed = []
    assert list(read_ahead(numbers(20, closed=closed), most)) == list(range(20))
    assert closed == ["reader" if most else threading.current_thread().name]
    assert not threads()


@pytest.mark.parametrize("most", [1, 3])
def test_no_more_is_read_than_may_be_queued(most):
    taken = []
    with closing(read_ahead(numbers(50, taken), most)) as items:
        assert next(items) == 0
        # Those in the queue, and the one that waits for space in it.
        wait_for(lambda: len(taken) == most + 2)
        for number in range(1, 10):
            assert next(items) == number
            assert len(taken) <= number + most + 2


def test_a_reader_that_is_no_longer_needed_ends():
    closed = []
    items = read_ahead(numbers(10**9, closed=closed), 2)
    assert [next(items), next(items)] == [0, 1]
    items.close()
    assert closed == ["reader"]
    assert not threads()


@pytest.mark.parametrize("most", [0, 2])
@pytest.mark.parametrize("error", [InputError("a.mp4: frame 3 is damaged"), KeyboardInterrupt()])
def test_an_error_of_the_reader_is_raised_after_the_frames_before_it(most, error):
    def damaged():
        yield from numbers(3)
        raise error

    found = []
    items = read_ahead(damaged(), most)
    for _ in range(3):
        found.append(next(items))
    with pytest.raises(type(error)) as raised:
        next(items)
    assert raised.value is error
    assert found == [0, 1, 2]
    assert not threads()


def write_all(write, count, most):
    with WriteBehind(most) as behind:
        for number in range(count):
            behind.do(write, number)


@pytest.mark.parametrize("most", [0, 1, 5])
def test_everything_is_written_in_order(most):
    written, names = [], set()

    def write(number):
        written.append(number)
        names.add(threading.current_thread().name)

    write_all(write, 20, most)
    assert written == list(range(20))
    assert names == {"writer" if most else threading.current_thread().name}
    assert not threads()


def test_the_caller_waits_for_space_in_the_queue():
    go, begun, written = Event(), Event(), []

    def write(number):
        begun.set()
        go.wait()
        written.append(number)

    def submit():
        with WriteBehind(2) as behind:
            for number in range(5):
                behind.do(write, number)
                submitted.append(number)

    submitted: list[int] = []
    caller = threading.Thread(target=submit)
    caller.start()
    begun.wait()
    # One is being written, two wait.
    wait_for(lambda: len(submitted) == 3)
    caller.join(0.05)
    assert (submitted, written) == ([0, 1, 2], [])
    go.set()
    caller.join()
    assert written == list(range(5))


@pytest.mark.parametrize("most", [0, 2])
@pytest.mark.parametrize("error", [InputError("b.mp4: no space left"), KeyboardInterrupt()])
def test_an_error_of_the_writer_reaches_the_caller_and_stops_the_writing(most, error):
    written = []

    def write(number):
        if number == 3:
            raise error
        written.append(number)

    with pytest.raises(type(error)) as raised:
        write_all(write, 100, most)
    assert raised.value is error
    assert written == [0, 1, 2]
    assert not threads()


def test_the_last_error_is_raised_when_the_block_ends():
    def fail():
        raise InputError("b.mp4: no space left")

    with pytest.raises(InputError, match="no space"), WriteBehind(2) as behind:
        behind.do(fail)


def test_an_error_is_raised_between_frames():
    def fail():
        raise InputError("b.mp4: no space left")

    def submit():
        with WriteBehind(2) as behind:
            behind.do(fail)
            while True:
                behind.check()

    with pytest.raises(InputError, match="no space"):
        submit()


def test_queued_frames_are_written_before_an_interruption_is_raised():
    go, written = Event(), []

    def write(number):
        go.wait()
        written.append(number)

    def submit():
        with WriteBehind(5) as behind:
            for number in range(4):
                behind.do(write, number)
            go.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        submit()
    assert written == [0, 1, 2, 3]
    assert not threads()


def test_a_second_interruption_drops_queued_frames(monkeypatch):
    go, begun, written = Event(), Event(), []

    def write(number):
        begun.set()
        go.wait()
        written.append(number)

    join = threading.Thread.join

    def interrupted(self, timeout=None):
        monkeypatch.setattr(threading.Thread, "join", join)
        threading.Timer(0.05, go.set).start()
        raise KeyboardInterrupt

    def submit():
        with WriteBehind(5) as behind:
            for number in range(4):
                behind.do(write, number)
            begun.wait()
            monkeypatch.setattr(threading.Thread, "join", interrupted)

    with pytest.raises(KeyboardInterrupt):
        submit()
    assert written == [0]
    assert not threads()

"""The second that everybody shares, and how it is written."""

import re
import time
from email.utils import parsedate_to_datetime

from proxy.clock import Clock


def test_the_clock_is_right_as_soon_as_it_is_there() -> None:
    before = int(time.time())
    clock = Clock()
    assert before <= clock.now <= time.time()
    date = clock.date_line.decode()
    assert re.fullmatch(r"Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n", date)
    assert parsedate_to_datetime(date[6:-2]).timestamp() == clock.now
    assert re.fullmatch(r"\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]", clock.log_time)
    assert time.mktime(time.strptime(clock.log_time[1:21], "%d/%b/%Y:%H:%M:%S")) == clock.now


def test_a_second_is_written_once() -> None:
    clock = Clock()
    clock.now = 0
    clock.tick()
    now, line = clock.now, clock.date_line
    while clock.now == now:  # at most one turn into the next second, mostly none
        clock.tick()
        if clock.now == now:
            assert clock.date_line is line
            break

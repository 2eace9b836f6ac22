"""What a report is as JSON."""

from pathlib import Path

import pytest

from proxy.errors import LabError
from proxy.lab.model import from_json, to_json

SAMPLE = Path(__file__).with_name("sample.json")


def test_a_report_is_the_same_after_writing_and_reading() -> None:
    report = from_json(SAMPLE.read_bytes())
    assert from_json(to_json(report)) == report
    assert to_json(report) == SAMPLE.read_bytes()


@pytest.mark.parametrize("document", [b"", b"[]", b'{"format": 1}', b"\xff"])
def test_what_is_no_report_is_named_as_such(document: bytes) -> None:
    with pytest.raises(LabError, match="not a report"):
        from_json(document)


def test_a_report_of_another_format_is_refused() -> None:
    document = SAMPLE.read_bytes().replace(b'"format": 1', b'"format": 99')
    with pytest.raises(LabError, match="has format 99"):
        from_json(document)

"""What a later version finds beside the maps of an earlier one."""

import numpy as np
import pytest

from common.errors import DecodeError
from common.settings import CaptureSettings
from producer.kernel.abi import STATE_PAGE, converted
from producer.kernel.layout import Layout, layout_of
from producer.kernel.run import LAYOUT_AT


def test_a_layout_survives_its_text() -> None:
    layout = layout_of(CaptureSettings())
    assert Layout.parse(layout.text()) == layout
    assert len(layout.text()) < STATE_PAGE.itemsize - LAYOUT_AT
    assert layout.state.itemsize <= LAYOUT_AT


def test_other_settings_are_another_layout() -> None:
    assert layout_of(CaptureSettings(ring_bytes=1 << 20)) != layout_of(CaptureSettings())
    assert layout_of(CaptureSettings(flow_entries=4096)) != layout_of(CaptureSettings())
    assert layout_of(CaptureSettings(epoch_ms=100)) == layout_of(CaptureSettings())
    inspecting = layout_of(CaptureSettings(inspect=True))
    assert layout_of(CaptureSettings()) != inspecting != layout_of(CaptureSettings(inspect=True, inspect_bytes=512))
    assert layout_of(CaptureSettings(inspect=True, inspect_budget=9)) == inspecting
    assert layout_of(CaptureSettings(inspect_bytes=512)) == layout_of(CaptureSettings())


@pytest.mark.parametrize("text", ["", "{}", "[]", "nonsense", '{"record": 3}'])
def test_what_is_no_layout_is_an_error(text: str) -> None:
    with pytest.raises(DecodeError):
        Layout.parse(text)


def test_records_of_another_version_are_read_by_name() -> None:
    ours = layout_of(CaptureSettings()).record
    event = [(name, ours["event"][name]) for name in ours["event"].names or () if name not in {"tos", "flags"}]
    theirs = np.dtype([("page_offset", "=u4"), ("header", "=u4"), ("event", [("new", "=u8"), *event])])
    found = np.zeros(2, theirs)
    found["event"]["ktime_ns"], found["event"]["src"] = 7, 9
    read = converted(found, ours)
    assert read.dtype == ours
    assert read["event"]["ktime_ns"].tolist() == [7, 7]
    assert read["event"]["src"].tolist() == [[9] * 16] * 2
    assert not read["event"]["tos"].any()

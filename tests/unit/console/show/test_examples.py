from datetime import UTC, datetime

from console.live.state import Connection
from console.query import flow_sql
from console.show import examples
from console.show.examples import CONNECTION, FLOW


def test_the_example_of_a_flow_has_the_columns_of_history_and_no_others() -> None:
    assert FLOW.keys() == {*flow_sql.COLUMNS}
    assert examples._VALUES.keys() <= FLOW.keys()


def test_the_example_of_a_connection_has_what_the_live_view_shows() -> None:
    now = datetime.now(UTC)
    shown = Connection(node="n", flow=FLOW, first_seen=now, last_seen=now, window_first=now, open=(0, 0, 0, 0)).shown(
        quiet=True
    )
    assert CONNECTION.keys() == shown.keys()

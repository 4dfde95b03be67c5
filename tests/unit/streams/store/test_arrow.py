from dataclasses import fields

import numpy as np

from schemas.flows import FlowColumns
from streams.partition.accounting import Accounts
from streams.partition.storing import KafkaPartition, WindowId
from streams.store.arrow import flow_columns, flow_table, ledger_table
from streams.windowing.biflow import merge
from streams.windowing.initiators import Initiators
from streams.windowing.tunnels import Tunnels
from streams.windowing.windows import split
from tests.unit.streams.batches import STRIDE, Packet, batch, counters
from tests.unit.streams.windowing.test_biflow import START, back, rows, there


def test_flows_survive_the_way_to_clickhouse_and_back() -> None:
    packet = there(5000, bytes=2**40, vlan_id=7, interface="eth1")
    tunnels = Tunnels()
    tunnel = {"tunnel_type": 5, "tunnel_id": 2**32 - 1, "outer_src": "10.9.0.2", "outer_dst": "2001:db8:9::1"}
    made = merge(
        rows([packet, back(packet, 9000), there(0, src="2001:db8::9", **tunnel)], tunnels),
        window_begin=START,
        window_seconds=10,
        node_names=("n1",),
        interface_names=("eth1", "eth0"),
        tunnels=tunnels.table(),
        initiators=Initiators(),
    )
    assert sorted(made.tunnel_type.tolist()) == [0, 5]
    table = flow_table(made, partition=KafkaPartition(5, 2), revision=1, offset_end=99)
    assert table.column("kafka_partition").to_pylist() == [2, 2]
    assert table.column("topic_id").to_pylist() == [5, 5]
    assert table.column("revision").to_pylist() == [1, 1]
    assert table.column("kafka_offset_end").to_pylist() == [99, 99]
    again = flow_columns(table, WindowId(START, 10))
    for field in fields(FlowColumns):
        if field.name not in {"interface", "interface_names"}:
            assert np.array_equal(getattr(again, field.name), getattr(made, field.name)), field.name
    assert [again.interface_names[i] for i in again.interface] == [made.interface_names[i] for i in made.interface]


def test_ledger_rows_become_arrays_by_window() -> None:
    accounts = Accounts()
    seen = [Packet(time_ns=START * 10**9, packets=3), Packet(time_ns=(START + 10) * 10**9)]
    made = batch(seen, counters=counters(1, seen, end_ns=1_500_000))
    accounts.count(made, split(made, 10), 0, 10)
    (row,) = ledger_table(accounts.closed()[0].rows).to_pylist()
    assert row["consumed_windows"] == [START, START + 10]
    assert row["consumed_packets"] == [3, 1]
    assert (row["emitted_packets"], row["end_time"].microsecond) == (4, 1500)


def test_sums_beyond_64_bits_are_in_the_ledger_as_the_tables_own_are() -> None:
    accounts = Accounts()
    for offset in range(4):
        seen = [Packet(time_ns=START * 10**9, bytes=2**62 + 1)]
        accounts.count(batch(seen, ring_start=offset * STRIDE), split(batch(seen), 10), offset, 10)
    last = counters(1, [])
    accounts.count(batch([], counters=last), [], 4, 10)
    (epoch,) = accounts.closed()
    assert ledger_table(epoch.rows).column("consumed_bytes").to_pylist() == [[4]]

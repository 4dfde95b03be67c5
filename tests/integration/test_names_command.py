"""`ayaflow names` on a real ClickHouse (chdb): views, filters, and a share of bytes that is right to the byte."""

import csv
import io

import pytest

from tests.integration.fix_tables import Run, Tables, lines

pytestmark = pytest.mark.clickhouse
SHARE = "62.5 % of 1.6 kB have a name (1,000 of 1,600 bytes): sni 43.8 %, dns 18.8 %"


@pytest.fixture
def named(tables: Tables, window: int) -> Tables:
    """Flows of two clients, and the DNS of one of them."""
    sni = {"domain": "www.example.org", "domain_source": "sni", "domain_count": 1}
    tables.flow(window_begin=window, packets=1, bytes=400, packets_rev=1, bytes_rev=200, **sni)
    # what came late of it, and says nothing: the flow keeps its name
    tables.flow(window_begin=window, packets=1, bytes=100, revision=1, last_offset_us=9)
    dns = {"domain": "api.example.org", "domain_source": "dns", "domain_count": 2}
    tables.flow(window_begin=window, packets=1, bytes=300, src_addr="::ffff:10.0.0.9", src_port=50_000, **dns)
    tables.flow(window_begin=window, packets=1, bytes=600, src_addr="::ffff:10.0.0.9", dst_port=853)
    # another passage of the first: counted once
    tables.flow(window_begin=window, packets=1, bytes=400, interface="eth1", primary=0, **sni)
    tables.name(window_begin=window, answers=["192.0.2.1", "192.0.2.2"])
    tables.name(window_begin=window, latency_us_sum=3_000, latency_us_max=2_000, count=2, latency_count=2)
    tables.name(window_begin=window, name="nowhere.example", rcode=3, latency_us_sum=9_000, latency_us_max=9_000)
    silent = {"rcode": -1, "latency_count": 0, "latency_us_sum": 0, "latency_us_max": 0}
    tables.name(window_begin=window, name="silent.example", qtype=65, count=4, **silent)
    tables.name(window_begin=window, kind="mdns", name="printer.local", server="::ffff:224.0.0.251", qtype=12, **silent)
    tables.name(window_begin=window, kind="tls", name="www.example.org", server="::ffff:10.0.0.2", qtype=0, **silent)
    return tables


@pytest.mark.usefixtures("named")
def test_domains_come_with_the_share_of_bytes(run: Run) -> None:
    code, out, err = run("names", "--since", "1h")
    assert (code, err) == (0, "")
    head, first, second, said, _ = out.splitlines()
    assert head.split() == ["domain", "from", "clients", "servers", "flows", "packets", "bytes", "share"]
    assert first.split() == ["www.example.org", "sni", "1", "1", "2", "3", "700", "B", "43.8", "%"]
    assert second.split() == ["api.example.org", "dns", "1", "1", "1", "1", "300", "B", "18.8", "%"]
    assert said == SHARE


@pytest.mark.usefixtures("named")
def test_the_share_is_that_of_the_filter(run: Run) -> None:
    _, out, _ = run("names", "--since", "1h", "src_addr = 10.0.0.9")
    assert out.splitlines()[-2] == "33.3 % of 900 B have a name (300 of 900 bytes): dns 33.3 %"
    _, out, _ = run("names", "--since", "1h", "domain = .example.org and domain_source = sni")
    assert out.splitlines()[-2] == "100.0 % of 700 B have a name (700 of 700 bytes): sni 100.0 %"
    _, out, err = run("names", "--since", "1h", "domain = '' and dst_port = 853")
    assert out.splitlines()[-2] == "0.0 % of 600 B have a name (0 of 600 bytes)"
    assert "no flow has a name" in err


@pytest.mark.usefixtures("named")
def test_transactions_are_counted_by_name_and_type(run: Run) -> None:
    code, out, err = run("names", "--queries", "--since", "1h", "--format", "json")
    assert code == 0
    assert SHARE in err
    rows = {(row["name"], row["qtype"]): row for row in lines(out)}
    assert rows.keys() == {
        ("www.example.org", "A"), ("nowhere.example", "A"), ("silent.example", "HTTPS"), ("printer.local", "PTR"),
    }  # fmt: skip
    www = rows["www.example.org", "A"]
    assert (www["transactions"], www["failures"], www["unanswered"], www["clients"]) == (3, 0, 0, 1)
    assert (www["latency_us_p50"], www["latency_us_p99"], www["latency_us_max"]) == (1_500, 1_500, 2_000)
    silent = rows["silent.example", "HTTPS"]
    assert (silent["transactions"], silent["unanswered"], silent["latency_us_p50"]) == (4, 4, None)
    assert rows["printer.local", "PTR"]["unanswered"] == 0  # of mDNS, that is well


@pytest.mark.usefixtures("named")
def test_failures_are_errors_and_silence(run: Run) -> None:
    _, out, _ = run("names", "--failures", "--since", "1h", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["name"], row["rcode"], row["transactions"], row["server"]) for row in rows] == [
        ("silent.example", "no answer", "4", "10.0.0.53"),
        ("nowhere.example", "NXDOMAIN", "1", "10.0.0.53"),
    ]


@pytest.mark.usefixtures("named")
def test_servers_have_percentiles_of_their_latency(run: Run) -> None:
    _, out, _ = run("names", "--latency", "--since", "1h", "--format", "json")
    (server,) = lines(out)
    assert (server["server"], server["transactions"], server["failures"], server["unanswered"]) == (
        "10.0.0.53",
        8,
        1,
        4,
    )
    assert (server["latency_us_p50"], server["latency_us_p90"], server["latency_us_max"]) == (1_500, 9_000, 9_000)


@pytest.mark.usefixtures("named")
def test_clients_without_dns_are_named(run: Run) -> None:
    _, out, _ = run("names", "--unseen", "--since", "1h", "--format", "json")
    (client,) = lines(out)
    assert (client["node"], client["client"], client["bytes"], client["named_bytes"]) == ("n1", "10.0.0.9", 900, 300)


@pytest.mark.usefixtures("named")
def test_filters_name_what_transactions_have(run: Run) -> None:
    queries = ("names", "--queries", "--since", "1h", "--format", "json")
    _, out, _ = run(*queries, "domain ~ EXAMPLE and dst_addr = 10.0.0.53")
    assert {row["name"] for row in lines(out)} == {"www.example.org", "nowhere.example", "silent.example"}
    _, out, _ = run(*queries, "addr = 224.0.0.251 and domain = .local")
    assert [row["name"] for row in lines(out)] == ["printer.local"]
    code, out, err = run("names", "--failures", "--since", "1h", "bytes > 1k")
    assert (code, out) == (2, "")
    assert "DNS transactions have no bytes" in err


def test_where_nothing_was_read_that_is_said(run: Run, tables: Tables, window: int) -> None:
    tables.flow(window_begin=window, packets=1, bytes=600)
    code, out, err = run("names", "--since", "1h")
    assert (code, out.splitlines()[0]) == (0, "0.0 % of 600 B have a name (0 of 600 bytes)")
    assert "capture.inspect" in err

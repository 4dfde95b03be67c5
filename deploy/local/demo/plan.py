"""Who there is in the demo and what they are called. Pure.

An office behind the cable that is watched, and a world beyond it. Addresses are private or those that RFC 5737 and 3849
keep for documentation, names those of RFC 2606: nothing of it is anybody's.
"""

import math
from dataclasses import dataclass

NODE, PAST_NODE = "demo", "demo-yesterday"
"""Of what passes now, and of what was made for the day before."""
OFFICE, WORLD, INTERFACE = "office", "world", "eth0"
"""The two namespaces, and the interface that each has."""
WATCHED = f"{OFFICE}/{INTERFACE}"

PEOPLE = tuple(f"10.20.0.{number}" for number in range(11, 23))
PEOPLE_V6 = tuple(f"fd20::{number}" for number in range(11, 17))
APPS = ("10.20.0.101", "10.20.0.102")
FILES = "10.20.0.110"
RESOLVER = "192.0.2.53"
DATABASE, BACKUP = "10.30.0.5", "10.30.0.9"
SCANNER = "203.0.113.77"
DNS_PORT, HTTP_PORT, HTTPS_PORT, POSTGRESQL_PORT, SSH_PORT = 53, 80, 443, 5432, 22
SCANNED_PORTS = (21, 22, 23, 25, 80, 110, 135, 139, 143, 443, 445, 993, 1433, 3306, 3389, 5432, 5900, 6379, 8080, 9200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A place that people go to."""

    name: str
    address: str
    weight: float  # how often, beside the others
    octets: int  # of an answer, in the median
    port: int = HTTPS_PORT


SITES = (
    Site(name="www.news.example", address="198.51.100.10", weight=10, octets=60_000),
    Site(name="cdn.news.example", address="198.51.100.11", weight=9, octets=140_000),
    Site(name="mail.post.example", address="198.51.100.20", weight=8, octets=15_000),
    Site(name="api.weather.example", address="198.51.100.30", weight=6, octets=3_000),
    Site(name="shop.example", address="198.51.100.40", weight=4, octets=90_000),
    Site(name="wiki.example", address="2001:db8:1::10", weight=5, octets=40_000),
    Site(name="git.code.example", address="2001:db8:1::20", weight=3, octets=200_000),
    Site(name="updates.mirror.example", address="198.51.100.50", weight=1.5, octets=900_000, port=HTTP_PORT),
    Site(name="tracker.ads.example", address="198.51.100.60", weight=5, octets=600),
)
CINEMA = Site(name="vod.cinema.example", address="203.0.113.10", weight=0, octets=250_000)
SERVERS = {"db.office.example": DATABASE, "backup.office.example": BACKUP}
MISSING = ("wpad.office.example", "printer.office.example", "old-intranet.office.example")
"""What is asked for and is not there."""

NAMES = {site.name: site.address for site in (*SITES, CINEMA)} | SERVERS
OFFICE_ADDRESSES = (*PEOPLE, *PEOPLE_V6, *APPS, FILES)
WORLD_ADDRESSES = (*NAMES.values(), RESOLVER, SCANNER)


def person(number: int, site: Site) -> str:
    """The address that a person has, of the family of a site."""
    return PEOPLE_V6[number % len(PEOPLE_V6)] if ":" in site.address else PEOPLE[number % len(PEOPLE)]


def bustle(hour: float) -> float:
    """How much goes on at a time of the day (0 to 24): 0.08 at night, 1 in the afternoon."""
    day = math.exp(-(((hour - 14.5) / 4.5) ** 2))
    return 0.08 + 0.92 * day * (0.75 if 12 <= hour < 13 else 1.0)

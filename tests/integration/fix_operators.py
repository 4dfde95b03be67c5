"""Operators as users write them: one that keeps its word, and some that do not."""

import time
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc


class Counting:
    """How many packets a revision of a window has, by node."""

    name = "counting"
    schema: ClassVar[pa.Schema] = pa.schema([("node", pa.string()), ("packets", pa.int64())])

    def window(self, flows: pa.Table) -> pa.Table:
        both = flows.append_column("both", pc.add(flows["packets"], flows["packets_rev"]))
        found = both.group_by("node").aggregate([("both", "sum")]).sort_by("node")
        return found.rename_columns({"both_sum": "packets"}).select(self.schema.names).cast(self.schema)


class Raising(Counting):
    """It never works."""

    name = "raising"

    def window(self, flows: pa.Table) -> pa.Table:
        raise LookupError("this operator is broken")


class Slow(Counting):
    """It takes longer than a window."""

    name = "slow"

    def window(self, flows: pa.Table) -> pa.Table:
        time.sleep(60)
        return super().window(flows)

-- What takes less room (measured: tests/bench/bench_bytes.py). Parts that are there already change when they are merged.
-- src_addr in blocks of 1 MiB: the flows of one window are found again in the next one.
ALTER TABLE {database}.flows{local} {on_cluster}
    MODIFY COLUMN src_port CODEC(T64, ZSTD(1)),
    MODIFY COLUMN dst_port CODEC(T64, ZSTD(1)),
    MODIFY COLUMN bytes CODEC(T64('bit'), ZSTD(1)),
    MODIFY COLUMN tcp_flags CODEC(T64, ZSTD(1)),
    MODIFY COLUMN tcp_flags_rev CODEC(T64, ZSTD(1));

ALTER TABLE {database}.flows{local} {on_cluster}
    MODIFY COLUMN src_addr MODIFY SETTING min_compress_block_size = 1048576, max_compress_block_size = 1048576;

-- The identity of a row, as in schemas/record_id.py: FlowRecord has it, for whoever reads the topic.
lower(hex(substring(SHA1(concat(
    reinterpretAsFixedString(topic_id), reinterpretAsFixedString(kafka_partition), reinterpretAsFixedString(toInt64(window_begin)),
    reinterpretAsFixedString(window_seconds), reinterpretAsFixedString(revision),
    {keys}
    reinterpretAsFixedString(toUInt16(length(node))), node, interface)), 1, 16)))

-- Community ID v1, seed 0, over the columns of a flow, as in schemas/community_id.py: stored it would cost 20 bytes a row.
-- Addresses by substring: toString and a String of them lose the zeros at their end.
arrayMap((s, d, p, q, one_way, has_ports) ->
    arrayMap(swap -> concat('1:', base64Encode(SHA1(concat(
        '\0\0', if(swap, d, s), if(swap, s, d), char(protocol), '\0',
        if(has_ports, concat(char(bitShiftRight(if(swap, q, p), 8), bitAnd(if(swap, q, p), 255)),
                             char(bitShiftRight(if(swap, p, q), 8), bitAnd(if(swap, p, q), 255))), ''))))),
        [NOT one_way AND (s > d OR (s = d AND has_ports AND p > q))])[1],
    [if(startsWith(reinterpret(src_addr, 'String'), unhex('00000000000000000000FFFF')), substring(reinterpret(src_addr, 'FixedString(16)'), 13), substring(reinterpret(src_addr, 'FixedString(16)'), 1))],
    [if(startsWith(reinterpret(dst_addr, 'String'), unhex('00000000000000000000FFFF')), substring(reinterpret(dst_addr, 'FixedString(16)'), 13), substring(reinterpret(dst_addr, 'FixedString(16)'), 1))],
    [toUInt16(if(protocol IN (1, 58), icmp_type, src_port))],
    [toUInt16(if(protocol IN (1, 58), transform(toInt32(protocol) * 256 + icmp_type,
        [264, 256, 269, 270, 271, 272, 266, 265, 273, 274, 14976, 14977, 14981, 14982, 14983, 14984, 14978, 14979, 14992, 14993, 14987, 14988],
        [0, 8, 14, 13, 16, 15, 9, 10, 18, 17, 129, 128, 134, 133, 136, 135, 131, 130, 145, 144, 140, 139], toInt32(icmp_code)), dst_port))],
    [protocol IN (1, 58) AND icmp_type >= 0 AND toInt32(protocol) * 256 + icmp_type NOT IN (264, 256, 269, 270, 271, 272, 266, 265, 273, 274, 14976, 14977, 14981, 14982, 14983, 14984, 14978, 14979, 14992, 14993, 14987, 14988)],
    [protocol IN (6, 17, 132) OR (protocol IN (1, 58) AND icmp_type >= 0)])[1]

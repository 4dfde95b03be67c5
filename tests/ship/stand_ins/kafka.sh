#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs Kafka from its jars with what KAFKA_SOME_PROPERTY says of some.property, as Apache's image does.
set -eu
properties=/tmp/server.properties
env | sed -n 's/^KAFKA_\([A-Z_]*\)=\(.*\)$/\1\t\2/p' | while IFS="$(printf '\t')" read -r name value; do
    case $name in HEAP_OPTS | OPTS | LOG4J_OPTS) continue ;; esac
    printf '%s=%s\n' "$(printf %s "$name" | tr 'A-Z_' 'a-z.')" "$value"
done > $properties
jars='/usr/share/ayaflow/jars/*'
[ -e "$KAFKA_LOG_DIRS/meta.properties" ] \
    || java -cp "$jars" kafka.tools.StorageTool format -t 4L6g3nShT-eMCtK--X86sw -c $properties
# shellcheck disable=SC2086
exec java ${KAFKA_HEAP_OPTS:-} -XX:+UseSerialGC -cp "$jars" kafka.Kafka $properties

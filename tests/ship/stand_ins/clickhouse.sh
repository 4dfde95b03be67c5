#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the embedded ClickHouse for the user whom ClickHouse's own image would make.
set -eu
grep -q '<listen_host>127.0.0.1</listen_host>' /etc/clickhouse-server/config.d/docker_related_config.xml
unset AYAFLOW_LOCAL_KAFKA_JARS_DIR
AYAFLOW_CLICKHOUSE_USERNAME=$CLICKHOUSE_USER AYAFLOW_CLICKHOUSE_PASSWORD=$CLICKHOUSE_PASSWORD \
    AYAFLOW_CLICKHOUSE_DATABASE=$CLICKHOUSE_DB AYAFLOW_DATA_DIR=/var/lib/clickhouse exec ayaflow clickhouse

"""Which of two ports is more likely that of the service. Pure.

The tables are ports of services that people run. Numbers and names are those of IANA's registry of service names and
port numbers, or, where everybody runs something else there or IANA has nobody, of what is run (9092, 9100, 51820).
That a port is registered is not enough: 775 is, and Linux' NFS clients ask from there.
"""

import numpy as np

WELL_KNOWN, ASKED_BY_ROOT, SYSTEM, USER, BELOW_1024, HIGH, BELOW_32768, EPHEMERAL = range(8)
"""Ranks, the most likely service first."""

_WELL_KNOWN = """
    7 echo  9 discard  13 daytime  17 qotd  19 chargen  21 ftp  22 ssh  23 telnet  25 smtp  37 time  43 whois
    49 tacacs  53 domain  67 bootps  69 tftp  70 gopher  79 finger  80 http  88 kerberos  102 iso-tsap  104 acr-nema
    109 pop2  110 pop3  111 sunrpc  113 ident  119 nntp  123 ntp  135 epmap  137 netbios-ns  138 netbios-dgm
    139 netbios-ssn  143 imap  161 snmp  162 snmptrap  177 xdmcp  179 bgp  194 irc  199 smux  213 ipx  319 ptp-event
    320 ptp-general  389 ldap  427 svrloc  443 https  445 microsoft-ds  464 kpasswd  465 submissions  500 isakmp
    502 mbap
"""
_ASKED_BY_ROOT = """
    512 exec  513 login  514 shell, syslog  515 printer  2049 nfs  4045 lockd  20048 mountd
"""
"""Their clients bind ports from 512 to 1023, which may be those of another service (873, 993)."""
_SYSTEM = """
    520 router  521 ripng  524 ncp  543 klogin  544 kshell  547 dhcpv6-server  548 afpovertcp  554 rtsp  563 nntps
    587 submission  593 http-rpc-epmap  623 asf-rmcp  631 ipp  636 ldaps  639 msdp  646 ldp  647 dhcp-failover
    749 kerberos-adm  830 netconf-ssh  853 domain-s  860 iscsi  862 twamp-control  873 rsync  902 vmware-auth
    989 ftps-data  990 ftps  992 telnets  993 imaps  995 pop3s
"""
_USER = """
    1080 socks  1099 rmiregistry  1194 openvpn  1352 lotusnote  1433 ms-sql-s  1434 ms-sql-m  1494 ica  1521 oracle
    1645 radius-old  1646 radius-acct-old  1701 l2tp  1719 h323gatestat  1720 h323hostcall  1723 pptp
    1755 ms-streaming  1812 radius  1813 radius-acct  1883 mqtt  1900 ssdp  1935 rtmp  1985 hsrp  2000 cisco-sccp
    2055 netflow  2082 cpanel  2083 cpanel, radsec  2086 whm  2087 whms  2095 webmail  2096 webmails  2121 ftp-alt
    2123 gtp-control  2152 gtp-user  2181 zookeeper  2222 ssh-alt, EtherNet-IP-1  2375 docker  2376 docker-s
    2377 swarm  2379 etcd-client  2380 etcd-server  2404 iec-104  2424 orientdb  2480 orientdb-http  2483 ttc
    2484 ttc-ssl  2525 smtp-alt  2601 zebra  2605 bgpd  2638 sybase  2775 smpp  2888 zookeeper-peer  2904 m2ua
    2905 m3ua  2947 gpsd  3000 http-dev, grafana  3050 gds-db  3074 xbox  3100 loki  3128 squid  3130 icpv2  3205 isns
    3225 fcip  3260 iscsi-target  3268 msft-gc  3269 msft-gc-ssl  3283 net-assistant  3299 saprouter  3300 ceph
    3306 mysql  3310 clamd  3343 ms-cluster-net  3386 gtp-prime  3389 ms-wbt-server  3478 stun  3493 nut  3544 teredo
    3565 m2pa  3632 distcc  3689 daap  3690 svn  3702 ws-discovery  3784 bfd-control  3785 bfd-echo
    3799 radius-dynauth  3868 diameter  3888 zookeeper-election  4040 spark-ui  4189 pcep  4190 sieve  4222 nats
    4317 otlp  4318 otlp-http  4341 lisp-data  4342 lisp-control  4369 epmd  4420 nvme  4443 https-alt  4460 ntske
    4500 ipsec-nat-t  4505 salt-publish  4506 salt-return  4567 galera  4568 galera-ist  4569 iax  4646 nomad
    4647 nomad-rpc  4648 nomad-serf  4730 gearman  4739 ipfix  4740 ipfixs  4784 bfd-multi-ctl  4789 vxlan
    4840 opcua-tcp  4949 munin  5000 http-dev, registry  5001 iperf  5004 rtp  5005 rtcp  5044 beats  5060 sip
    5061 sips  5140 syslog-alt  5190 aol  5201 iperf3  5222 xmpp-client  5223 hpvirtgrp  5228 hpvroom
    5246 capwap-control  5247 capwap-data  5269 xmpp-server  5280 xmpp-bosh  5349 stuns  5351 nat-pmp  5353 mdns
    5355 llmnr  5357 wsdapi  5432 postgresql  5433 postgresql-alt  5555 adb  5601 kibana  5631 pcanywheredata
    5632 pcanywherestat  5666 nrpe  5667 nsca  5671 amqps  5672 amqp  5678 rrac  5683 coap  5684 coaps  5800 vnc-http
    5900 rfb  5901 rfb-1  5902 rfb-2  5903 rfb-3  5938 teamviewer  5984 couchdb  5985 wsman  5986 wsmans  6000 x11
    6001 x11-1  6002 x11-2  6003 x11-3  6081 geneve  6123 flink  6343 sflow  6379 redis  6380 redis-tls
    6432 pgbouncer  6443 kubernetes  6513 netconf-tls  6514 syslog-tls  6566 sane-port  6633 openflow-old
    6635 mpls-udp  6640 ovsdb  6641 ovn-nb  6642 ovn-sb  6653 openflow  6660 ircu  6661 ircu-1  6662 ircu-2
    6663 ircu-3  6664 ircu-4  6665 ircu-5  6666 ircu-6  6667 ircd  6668 ircu-8  6669 ircu-9  6697 ircs-u
    6789 ceph-mon  6881 bittorrent  7000 afs3-fileserver  7001 afs3-callback  7002 afs3-prserver  7003 afs3-vlserver
    7005 afs3-volser  7077 spark  7199 cassandra-jmx  7233 temporal  7473 neo4j-https  7474 neo4j-http  7547 cwmp
    7680 ms-do  7687 bolt  7946 swarm-gossip  8000 http-dev  8005 tomcat-shutdown  8006 proxmox  8008 http-alt-2
    8009 ajp13  8020 hdfs-namenode  8030 yarn-scheduler  8031 yarn-tracker  8032 yarn  8033 yarn-admin  8042 yarn-node
    8080 http-alt  8081 http-8081  8082 http-8082  8083 http-8083  8084 http-8084  8085 http-8085  8086 influxdb
    8087 http-8087  8088 radan-http  8089 splunk  8090 http-8090  8091 couchbase  8096 jellyfin  8123 clickhouse
    8125 statsd  8126 datadog-trace  8140 puppet  8181 http-8181  8200 vault  8201 vault-cluster  8222 nats-monitor
    8291 winbox  8300 consul-rpc  8301 consul-lan  8302 consul-wan  8332 bitcoin-rpc  8333 bitcoin  8384 syncthing-ui
    8443 https-alt-2  8472 otv  8500 consul  8501 consul-https  8529 arangodb  8554 rtsp-alt  8600 consul-dns
    8649 ganglia  8728 routeros-api  8729 routeros-apis  8774 nova  8776 cinder  8787 rstudio  8834 nessus
    8880 http-8880  8883 secure-mqtt  8888 http-8888  8889 http-8889  8983 solr  9000 clickhouse-native
    9001 http-9001  9009 clickhouse-interserver  9042 cassandra  9080 http-9080  9083 hive-metastore  9090 prometheus
    9091 pushgateway  9092 kafka  9093 kafka-tls, alertmanager  9094 kafka-external  9100 node-exporter, jetdirect
    9101 bacula-dir  9102 bacula-fd  9103 bacula-sd  9104 mysqld-exporter  9115 blackbox-exporter  9121 redis-exporter
    9160 cassandra-thrift  9187 postgres-exporter  9200 elasticsearch  9300 elasticsearch-transport  9389 adws
    9411 zipkin  9418 git  9440 clickhouse-tls  9443 https-9443  9600 logstash  9696 neutron  9864 hdfs-data-http
    9866 hdfs-data  9867 hdfs-data-ipc  9870 hdfs-http  9876 rocketmq  9990 wildfly  9993 zerotier  9995 netflow-9995
    9996 netflow-9996  9997 splunk-data  9999 http-9999  10000 webmin, ndmp  10050 zabbix-agent  10051 zabbix-trapper
    10080 amanda  10161 snmptls  10162 snmptls-trap  10248 kubelet-health  10249 kube-proxy  10250 kubelet
    10255 kubelet-read  10256 kube-proxy-health  10257 kube-controller  10259 kube-scheduler  10809 nbd
    10911 rocketmq-broker  11112 dicom  11211 memcache  11371 hkp  11434 ollama  11800 skywalking  12201 gelf
    14250 jaeger-grpc  14268 jaeger-http  15672 rabbitmq-http  15692 rabbitmq-metrics  16379 redis-bus  16509 libvirt
    16514 libvirt-tls  16686 jaeger-ui  17500 db-lsp  18080 spark-history  18083 emqx  19132 minecraft-bedrock
    19999 netdata, dnp-sec  20000 dnp  22000 syncthing  24007 glusterd  24224 fluentd  24800 synergy  25565 minecraft
    25672 rabbitmq-cluster  26257 cockroachdb  26379 redis-sentinel  26656 tendermint  27015 steam  27017 mongodb
    27018 mongodb-shard  27019 mongodb-config  29118 sgsap  29168 sbcap  29418 gerrit  30303 ethereum  32400 plex
"""
_HIGH = """
    34962 profinet-rt  34963 profinet-rtm  34964 profinet-cm  35357 keystone  36412 s1-control  36422 x2-control
    38412 ng-control  38422 xn-control  38462 e1-control  38472 f1-control  41641 tailscale  44818 EtherNet-IP-2
    47808 bacnet  50051 grpc  51413 transmission  51820 wireguard  61613 stomp  61616 activemq  64738 mumble
"""
"""Where Linux and others take the ports of clients from: a service only beside what is none."""


def _ports(table: str) -> list[int]:
    return [int(word) for word in table.split() if word.isdecimal()]


def _ranks() -> "np.ndarray[tuple[int], np.dtype[np.uint8]]":
    ranks = np.full(1 << 16, EPHEMERAL, np.uint8)
    ranks[:32768] = BELOW_32768
    ranks[:1024] = BELOW_1024
    tables = {WELL_KNOWN: _WELL_KNOWN, ASKED_BY_ROOT: _ASKED_BY_ROOT, SYSTEM: _SYSTEM, USER: _USER, HIGH: _HIGH}
    for rank, table in tables.items():
        ranks[_ports(table)] = rank
    ranks.flags.writeable = False
    return ranks


RANKS = _ranks()
"""By port."""

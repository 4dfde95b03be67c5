// SPDX-License-Identifier: Apache-2.0
// Numbers and values as people read them. Thousands are 1000, as networks and the command line count.

const STEPS = ["", "k", "M", "G", "T", "P", "E"];
const PROTOCOLS = {
  1: "icmp", 2: "igmp", 4: "ipip", 6: "tcp", 17: "udp", 33: "dccp", 41: "ipv6", 47: "gre", 50: "esp", 51: "ah",
  58: "icmp6", 89: "ospf", 112: "vrrp", 132: "sctp", 136: "udplite",
};
const SERVICES = {
  7: "echo", 9: "discard", 20: "ftp-data", 21: "ftp", 22: "ssh", 23: "telnet", 25: "smtp", 53: "dns", 67: "dhcp",
  68: "dhcp", 69: "tftp", 80: "http", 110: "pop3", 123: "ntp", 143: "imap", 161: "snmp", 162: "snmp-trap",
  179: "bgp", 389: "ldap", 443: "https", 445: "smb", 465: "smtps", 514: "syslog", 546: "dhcpv6", 547: "dhcpv6",
  587: "submission", 636: "ldaps", 853: "dns-tls", 873: "rsync", 993: "imaps", 995: "pop3s", 1194: "openvpn",
  1433: "mssql", 1883: "mqtt", 2049: "nfs", 2055: "netflow", 2379: "etcd", 3306: "mysql", 3389: "rdp", 4789: "vxlan",
  5201: "iperf3", 5353: "mdns", 5432: "postgres", 5672: "amqp", 6081: "geneve", 6379: "redis", 6443: "kubernetes",
  8080: "http-alt", 8123: "clickhouse", 8443: "https-alt", 9000: "clickhouse", 9090: "prometheus", 9092: "kafka",
  9200: "elastic", 11211: "memcached", 27017: "mongodb", 51820: "wireguard",
};

/** 1234567 -> "1.23 M": three digits; a unit is put behind. */
export function si(value, unit = "") {
  let number = Number(value) || 0;
  let step = 0;
  while (Math.abs(number) >= 999.5 && step < STEPS.length - 1) {
    number /= 1000;
    step += 1;
  }
  const digits = step === 0 ? (Number.isInteger(number) || Math.abs(number) >= 10 ? 0 : 1)
    : Math.abs(number) >= 99.95 ? 0 : Math.abs(number) >= 9.995 ? 1 : 2;
  return `${number.toFixed(digits)} ${STEPS[step]}${unit}`.trimEnd();
}

export const bytes = (value) => si(value, "B");
export const rate = (value) => si(value, "B/s");
export const packetRate = (value) => `${si(value)} packets/s`;
export const amount = (value, measure) => (measure === "bytes" ? bytes(value) : si(value));

/** 1234567 -> "1,234,567". */
export const whole = (value) => Math.round(Number(value) || 0).toLocaleString("en-US");

/** 0.1234 -> "12.3 %". */
export function share(part, all) {
  if (!all) return "";
  const percent = (100 * part) / all;
  if (part > 0 && percent < 0.05) return "< 0.1 %";
  return `${percent >= 99.95 ? "100" : percent.toFixed(1)} %`;
}

/** How much of the bytes has a name: {text, title}, or null without a byte. `named` and `all` are bytes. */
export function shareOfNames(named, all, what = "bytes") {
  if (!all) return null;
  // never 100 % of what is not all
  const text = named < all && share(named, all) === "100 %" ? "> 99.9 %" : share(named, all);
  return { text: `${named ? text : "0 %"} of the ${what} have a name`, title: `${whole(named)} of ${whole(all)} bytes` };
}

/** 1234 microseconds -> "1.2 ms". */
export function milliseconds(micros) {
  if (micros === null || micros === undefined) return "–";
  return `${(micros / 1000).toFixed(micros < 100_000 ? 1 : 0)} ms`;
}

/** 3725 -> "1h 2m". */
export function duration(seconds) {
  /** @type {[string, number][]} */
  const units = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
  let left = Math.max(0, Math.round(seconds));
  const first = units.findIndex(([, size]) => left >= size);
  if (first < 0) return "0s";
  return units.slice(first, first + 2).map(([unit, size]) => {
    const count = Math.floor(left / size);
    left -= count * size;
    return count ? `${count}${unit}` : "";
  }).filter(Boolean).join(" ");
}

export const protocol = (number) => PROTOCOLS[number] ?? `ip/${number}`;
export const service = (port) => SERVICES[port] ?? "";

/** 10.0.0.1 and 443 -> "10.0.0.1:443". */
export function endpoint(address, port) {
  if (!port) return address;
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/** What is spoken: "tcp/443 https", "icmp". */
export function talk(number, port) {
  const name = protocol(number);
  if (!port) return name;
  return `${name}/${port}${SERVICES[port] ? ` ${SERVICES[port]}` : ""}`;
}

/** A value of a dimension for people. */
export function dimension(name, value) {
  if (value === null || value === undefined || value === "") return "–";
  if (Array.isArray(value)) return value.join(" ↔ ");
  if (name === "protocol") return protocol(value);
  if (name.endsWith("port") && service(value)) return `${value} ${service(value)}`;
  return String(value);
}

/** "cannot read x" -> "Cannot read x." */
export function sentence(text) {
  const message = text.trim();
  return `${message.charAt(0).toUpperCase()}${message.slice(1)}${/[.!?]$/.test(message) ? "" : "."}`;
}

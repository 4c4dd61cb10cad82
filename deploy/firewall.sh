#!/usr/bin/env bash
# Prints a firewall for a machine of one's own cluster, in nftables' language: SSH from anywhere, everything from the
# machines of the cluster, nothing else. The same for all of them:
#   deploy/firewall.sh ADDRESS... | ssh MACHINE sudo nft -f -
# Addresses are those of cluster.local.yaml, and that of the NFS server. It holds until the machine restarts: add it to
# /etc/nftables.conf there to keep it, and before `reject` what else the machine serves.
set -euo pipefail
fail() { echo "firewall.sh: $1" >&2; exit 2; }
[ $# -gt 0 ] || fail "name the addresses of all machines of the cluster"
v4=() v6=()
for address in "$@"; do
  case "$address" in
    *:*) v6+=("ip6 saddr $address accept") ;;
    *[!0-9./]* | "") fail "'$address' is a name, and a firewall knows addresses: 'getent hosts $address' has it" ;;
    *) v4+=("ip saddr $address accept") ;;
  esac
done

cat << NFT
table inet sisr
delete table inet sisr
table inet sisr {
  chain input {
    type filter hook input priority filter; policy drop;
    iif lo accept
    ct state established,related accept
    tcp dport 22 accept
    meta l4proto { icmp, ipv6-icmp } accept
$(printf '    %s\n' "${v4[@]}" "${v6[@]}")
    meta l4proto tcp reject with tcp reset
    reject
  }
}
NFT

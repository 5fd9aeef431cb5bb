# What interfaces are asked for besides frames: sizes, VLANs, groups, rings, moderation, offloads.
. /vm/linux/card.sh
load
apart
alive() { check "$1" 20 ping -q -c 3 -i 0.2 -W 2 10.0.0.2; }
# both COMMAND… with DEV replaced by each side's interface.
both() {
  # shellcheck disable=SC2046 # words
  ip $(echo "$*" | sed "s/DEV/$a/g")
  # shellcheck disable=SC2046
  $there /usr/bin/ip $(echo "$*" | sed "s/DEV/$b/g")
}

# Jumbo frames: the 82599 has them only when its PF has.
card pf mtu 9000
sleep 2
wait_for 20 ping -c 1 -W 1 10.0.0.2
both link set DEV mtu 9000
wait_for 20 ping -c 1 -W 1 10.0.0.2
host counters 1
before=$(echo "$answer" | cut -d' ' -f2)
check jumbo 20 ping -q -c 10 -i 0.1 -s 8900 10.0.0.2
host counters 1
# Ten in one piece each, and what else a network says in a second; in pieces they would be sixty.
check jumbo-in-one-piece 1 test "$(($(echo "$answer" | cut -d' ' -f2) - before))" -lt 30
both link set DEV mtu 1500
card pf mtu 1500
sleep 2
wait_for 20 ping -c 1 -W 1 10.0.0.2
alive mtu-1500

modprobe 8021q
ip link add link "$a" name tagged type vlan id 7
ip addr add 10.0.7.1/24 dev tagged
ip link set tagged up
$there /usr/bin/ip link add link "$b" name tagged type vlan id 7
$there /usr/bin/ip addr add 10.0.7.2/24 dev tagged
$there /usr/bin/ip link set tagged up
check vlan 20 ping -q -c 5 -i 0.2 -W 2 10.0.7.2
check vlan-large 20 ping -q -c 5 -i 0.2 -s 1472 -W 2 10.0.7.2
ip link del tagged
$there /usr/bin/ip link del tagged
alive without-vlan

# A group that the other side has joined arrives; one that it has not joined does not, unless it is all-multicast, for which a
# PF must trust it. (igbvf never asks for that.)
multicasts() { $there ethtool -S "$b" | awk '/^ *multicast:|^ *rx_multicast:/ { print $2; exit }'; }
ip route add 224.0.0.0/4 dev "$a"
# heard GROUP: how many frames to it the other side gets out of five, in $heard.
heard() {
  before=$(multicasts)
  ping -q -c 5 -i 0.2 -W 1 "$1" >/dev/null || :
  sleep 0.5
  heard=$(($(multicasts) - before))
}
heard 239.1.2.3
check multicast-not-joined 1 test "$heard" -lt 5
$there /usr/bin/ip maddr add 01:00:5e:01:02:03 dev "$b"
sleep 0.5
heard 239.1.2.3
check multicast-joined 1 test "$heard" -ge 5

# A frame to an address that is nobody's arrives where a trusted driver is promiscuous, if its PF is too and can. (No 82599's
# can, and igbvf never asks.)
model=$(sed -n 's/.*card_model=\([a-z0-9]*\).*/\1/p' /proc/cmdline)
ip neigh replace 10.0.0.9 lladdr 02:00:00:00:00:99 dev "$a" nud permanent
# strays: how many such frames the other side gets out of five, in $strays.
strays() {
  host counters 1
  before=${answer#ok }
  ping -q -c 5 -i 0.2 -W 1 10.0.0.9 >/dev/null || :
  host counters 1
  after=${answer#ok }
  strays=$((${after%% *} - ${before%% *}))
}
trusted=0 promiscuous=0
[ "$driver" = igbvf ] || trusted=5
case $model in x540 | x550) promiscuous=5 ;; esac
card pf promisc on
$there /usr/bin/ip link set "$b" allmulticast on
$there /usr/bin/ip link set "$b" promisc on
sleep 0.5
heard 239.4.5.6
check allmulticast-untrusted 1 test "$heard" -lt 5
strays
check promiscuous-untrusted 1 test "$strays" -lt 5
card vf 1 trust on
sleep 1
wait_for 20 ping -c 1 -W 1 10.0.0.2
$there /usr/bin/ip link set "$b" promisc off
heard 239.4.5.6
check allmulticast-trusted 1 sh -c "[ $((heard >= 5 ? 5 : 0)) = $trusted ]"
$there /usr/bin/ip link set "$b" promisc on
sleep 0.5
strays
check promiscuous-trusted 1 sh -c "[ $((strays >= 5 ? 5 : 0)) = $promiscuous ]"
$there /usr/bin/ip link set "$b" promisc off
$there /usr/bin/ip link set "$b" allmulticast off
card pf promisc off
card vf 1 trust off
sleep 1
wait_for 20 ping -c 1 -W 1 10.0.0.2
alive after-promisc

check rings 10 ethtool -G "$a" rx 1024 tx 2048
wait_for 20 ping -c 1 -W 1 10.0.0.2
alive with-other-rings
check moderation 10 ethtool -C "$a" rx-usecs 100
alive with-moderation
for offload in rx tx sg tso gso gro; do
  run 10 ethtool -K "$a" "$offload" off
done
alive without-offloads
for offload in rx tx sg tso gso gro; do
  run 10 ethtool -K "$a" "$offload" on
done
alive with-offloads

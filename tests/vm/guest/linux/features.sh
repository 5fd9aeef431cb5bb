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

# A group that the other side has joined arrives; one that it has not joined does not.
multicasts() { $there ethtool -S "$b" | awk '/^ *multicast:|^ *rx_multicast:/ { print $2; exit }'; }
ip route add 224.0.0.0/4 dev "$a"
before=$(multicasts)
ping -q -c 5 -i 0.2 -W 1 239.1.2.3 >/dev/null || :
sleep 3
not_joined=$(($(multicasts) - before))
$there /usr/bin/ip maddr add 01:00:5e:01:02:03 dev "$b"
sleep 1
before=$(multicasts)
ping -q -c 5 -i 0.2 -W 1 239.1.2.3 >/dev/null || :
sleep 3
joined=$(($(multicasts) - before))
echo "# multicast: $not_joined frames before joining, $joined after" >&3
check multicast-joined 1 test "$joined" -ge 5
check multicast-not-joined 1 test "$not_joined" -lt 5

check allmulti 5 /usr/bin/ip link set "$a" allmulticast on
check promisc-untrusted 5 /usr/bin/ip link set "$a" promisc on
card vf 0 trust on
sleep 3
check promisc-trusted 5 sh -c "/usr/bin/ip link set $a promisc off && /usr/bin/ip link set $a promisc on"
ip link set "$a" promisc off
ip link set "$a" allmulticast off
card vf 0 trust off
sleep 3
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

# What Linux's igbvf finds on a card, one fact a line, for two cards to be compared: the simulated 82576, or QEMU's own (its PF
# is in the guest as well then).
. /vm/linux/card.sh
fact() { echo "# fact $*" >&3; }

if grep -q card_model=qemu /proc/cmdline; then
  modprobe igb
  pf=$(dirname "$(ls -d /sys/bus/pci/devices/*/sriov_numvfs)")
  ip link set "$(net_of "$(basename "$pf")")" up
  wait_for 20 sh -c "echo 2 >$pf/sriov_numvfs"
  pci0=$(basename "$(readlink "$pf/virtfn0")") pci1=$(basename "$(readlink "$pf/virtfn1")")
fi

# Configuration space, but for the addresses that the system gave.
config() { hexdump -v -s "$1" -n "$2" -e "1/$2 \"%0$(($2 * 2))x\"" "/sys/bus/pci/devices/$pci0/config"; }
fact "class $(config 8 4) interrupt pin $(config 61 1)"
at=$(printf %d "0x$(config 52 1)")
while [ "$at" != 0 ]; do
  case $(config $at 1) in
    11) fact "capability 11: control $(config $((at + 2)) 2) table $(config $((at + 4)) 4) pba $(config $((at + 8)) 4)" ;;
    10) fact "capability 10: type $(config $((at + 2)) 2) device $(config $((at + 4)) 4)" ;;
    *) fact "capability $(config $at 1)" ;;
  esac
  at=$(printf %d "0x$(config $((at + 1)) 1)")
done

load
apart
ethtool -d "$a" raw on | hexdump -v -e '1/4 "%08x "' >/tmp/out
# shellcheck disable=SC2046 # words
set -- $(cat /tmp/out)
fact "registers: VTCTRL $1 VTSTATUS $2 RDLEN $3 TDLEN $6"
ethtool -S "$a" >/tmp/out
fact "statistics: $(grep -c : /tmp/out)"

# counter SIDE NAME
counter() {
  case $1 in a) ethtool -S "$a" ;; b) $there ethtool -S "$b" ;; esac | awk -v name="$2:" '$1 == name { print $2 }'
}
# delivered NAME SIDE COMMAND…: how many frames the side gets of about five that the command has $a send, none or all of them.
delivered() {
  delivered_name=$1 side=$2
  shift 2
  sleep 1
  before=$(counter "$side" rx_packets)
  run 20 "$@"
  sleep 1
  count=$(($(counter "$side" rx_packets) - before))
  fact "$delivered_name: $([ $count -ge 5 ] && echo arrives || echo does not arrive)"
}
ip route add 224.0.0.0/4 dev "$a"
five='ping -q -c 5 -i 0.2 -W 1'
ip neigh replace 10.0.0.8 lladdr ff:ff:ff:ff:ff:ff dev "$a" nud permanent
delivered 'own broadcast' a $five 10.0.0.8
delivered 'multicast, not joined' b $five 239.1.2.3
$there /usr/bin/ip maddr add 01:00:5e:01:02:03 dev "$b"
delivered 'multicast, joined' b $five 239.1.2.3
# Which groups a VF wants is a table of hashes.
$there /usr/bin/ip maddr add 01:00:5e:00:01:07 dev "$b"
delivered 'multicast, not joined, of the hash of one that is' b $five 239.7.7.7
ip neigh replace 10.0.0.9 lladdr 02:00:00:00:00:99 dev "$a" nud permanent
delivered 'stranger unicast' b $five 10.0.0.9
ip link set "$a" mtu 3000
wait_for 20 ping -c 1 -W 1 10.0.0.2
delivered 'longer than the receiver has asked for' b $five -s 2900 10.0.0.2
ip link set "$a" mtu 1500
wait_for 20 ping -c 1 -W 1 10.0.0.2
delivered 'known unicast' b $five 10.0.0.2

$there iperf3 -s -D
sleep 1
sent=$(counter a tx_packets) received=$(counter b rx_packets)
run 30 iperf3 -c 10.0.0.2 -n 4M -w 96K
sleep 2
sent=$(($(counter a tx_packets) - sent)) received=$(($(counter b rx_packets) - received))
fact "segmented frames count as $([ $((received - sent)) -lt 20 ] && echo 'the frames they become' || echo 'one')"
fact "received from another VF counts as such: $([ "$(counter b lbrx_packets)" -gt 0 ] && echo yes || echo no)"
fact "checksums checked: $([ "$(counter b rx_csum_offload_good)" -gt 0 ] && echo yes || echo no)"
pass facts

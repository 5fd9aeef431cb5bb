# TCP of the guest's kernel through testpmd's checksum engine: the kernel has a TAP of testpmd's, which hands what comes from
# there to a VF with its checksums to be made and in segments of 800 bytes; the other VF is the kernel's own driver's, in another
# namespace. Were a segment or a checksum wrong, the kernel there would not have it.
. /vm/dpdk/testpmd.sh
modprobe tun
tap_mac=02:00:00:00:00:0c
case $pmd in net_ixgbe_vf) driver=ixgbevf ;; *) driver=igbvf ;; esac
modprobe "$driver"
bind "$vf1" "$driver"
wait_for 20 net_of "$vf1" >/dev/null
net=$(net_of "$vf1")
unshare -n sleep 100000 &
there=$!
wait_for 5 sh -c "[ \$(readlink /proc/$there/ns/net) != \$(readlink /proc/self/ns/net) ]"
ip link set "$net" netns "$there"
there="nsenter -t $there -n"
$there /usr/bin/ip addr add 10.9.0.2/24 dev "$net"
$there /usr/bin/ip link set "$net" up
$there /usr/bin/ip neigh replace 10.9.0.1 lladdr "$mac0" dev "$net" nud permanent
$there iperf3 -s -D

segments() {
  echo port stop 0
  for layer in ip tcp udp; do echo "csum set $layer hw 0"; done
  echo tso set 800 0
  echo port start 0
  echo set fwd csum
  echo start
  wait_for 20 ip link set segments up >&2
  {
    ip addr add 10.9.0.1/24 dev segments
    ip neigh replace 10.9.0.2 lladdr "$mac1" dev segments nud permanent
    wait_for 30 ping -c 1 -W 1 10.9.0.2
    count 0
    sent0=$sent
    iperf3 -c 10.9.0.2 -n 8M -w 96K -f m && echo "iperf3 is through"
    count 0
    echo "$((sent - sent0)) frames sent"
  } >/tmp/traffic 2>&1
  echo stop
  echo show port 0 tx_offload configuration
}
# The VF is one port, the TAP the other; what goes to either has the address of who is behind it.
vfs="-a $vf0" peers="--eth-peer=0,$mac1 --eth-peer=1,$tap_mac" \
  session segments 120 segments --vdev=net_tap0,iface=segments,mac=$tap_mac --
says tcp-checksums-in-hardware 'TCP_CKSUM|tcp checksum offload is hw'
cp /tmp/traffic /tmp/out
cat /tmp/out
says tcp-arrives 'iperf3 is through'
# Each full segment of the kernel's (1448 bytes, 5793 of them) has become two; what is on its way at the end is cut off.
frames=$(sed -n 's/ frames sent$//p' /tmp/out)
check in-segments 1 test "${frames:-0}" -ge 10000
$there cat /proc/net/snmp | awk '/^Tcp:/ { if (names) { n = split(names, name); for (i = 2; i <= n; i++) print name[i], $i } names = $0 }' >/tmp/out
cat /tmp/out
says no-checksum-wrong '^InCsumErrors 0$'
echo "# $model segments: $frames frames for 8 MiB of TCP, $(sed -n 's/^InCsumErrors //p' /tmp/out) wrong checksums" >&3

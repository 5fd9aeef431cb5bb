# The kernel's driver and AF_PACKET: the kernel's part is in nobody's account, so what counts is all that was not idle.
. /vm/cost/lib.sh
for vf in "$vf0" "$vf1"; do bind "$vf" ixgbevf; done
wait_for 20 net_of "$vf0" >/dev/null
wait_for 20 net_of "$vf1" >/dev/null
a=$(net_of "$vf0") b=$(net_of "$vf1")
for net in "$a" "$b"; do
  echo 1 >"/proc/sys/net/ipv6/conf/$net/disable_ipv6" 2>/dev/null || :
  ip link set "$net" arp off up
  wait_for 30 grep -q 1 "/sys/class/net/$net/carrier"
done
packet forward "$a" "$mac0" "$b" "$mac1" &
forwarder=$!
sleep 0.5
round 192
sleep 0.2
# busy: hundredths of a second that the processor was not idle.
busy() { awk '/^cpu / { print $2 + $3 + $4 + $7 + $8 }' /proc/stat; }
before=$(carried) worked=$(busy)
sleep 1
worked=$(($(busy) - worked)) more=$(($(carried) - before))
cost af-packet-v3 $((worked * 10000000)) "$more" 50000
stop "$forwarder"

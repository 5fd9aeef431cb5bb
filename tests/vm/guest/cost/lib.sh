# What the cost scenarios share: frames going round two VFs, and counting what their forwarder executes. Sourced; makes no
# checks. Under -icount a nanosecond of processor time is an instruction.
. /vm/dpdk/testpmd.sh

pci2=0000:03:00.0
modprobe ixgbevf
[ "$(driver_of "$pci2")" = ixgbevf ] || bind "$pci2" ixgbevf
wait_for 20 net_of "$pci2" >/dev/null
maker=$(net_of "$pci2")
echo 1 >"/proc/sys/net/ipv6/conf/$maker/disable_ipv6" 2>/dev/null || :
ip link set "$maker" up
wait_for 30 grep -q 1 "/sys/class/net/$maker/carrier"

# round FRAMES: sets so many frames going round, each way.
round() {
  packet seed "$maker" "$mac0" "$1"
  packet seed "$maker" "$mac1" "$1"
}

# carried: frames that both VFs have received so far.
carried() {
  count 0
  carried_first=$received
  count 1
  echo $((carried_first + received))
}
# cost NAME INSTRUCTIONS FRAMES LEAST: keeps a line for the table.
cost() {
  echo "$2 instructions, $3 frames" >/tmp/out
  if [ "$3" -ge "$4" ]; then pass "$1" "$3 frames"; else fail "$1" "only $3 of $4 frames"; fi
  awk -v name="$1" -v instructions="$2" -v frames="$3" 'BEGIN { print name, instructions / (frames ? frames : 1) }' >>/tmp/cost
}

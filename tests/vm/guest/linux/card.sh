# What scenarios with Linux's own driver on the simulated card start with: one or two VFs, each alone on its bus, and, where
# the bed has given this guest a line to it, the host.

pci0=0000:01:00.0 pci1=0000:02:00.0
line=''
if stty -F /dev/ttyS2 raw -echo 2>/dev/null; then
  line=yes
  exec 4<>/dev/ttyS2
fi

# host REQUEST…: asks the host; what it answers is in $answer. False when it refuses.
host() {
  echo "$*" >&4
  read -r answer <&4
  echo "host: $* -> $answer"
  case $answer in ok*) ;; *) return 1 ;; esac
}
# card KNOBS…: turns a knob of the card's PF, as `vfnic sim set` does.
card() { host set "$@"; }

# The network interface of a PCI function, once its driver has made it.
net_of() { ls "/sys/bus/pci/devices/$1/net" 2>/dev/null; }
has_carrier() { [ "$(cat "/sys/class/net/$1/carrier" 2>/dev/null)" = 1 ]; }

# load: the driver that the kernel chooses by the device's ids, freshly loaded, on both VFs; leaves their interfaces in $a
# and $b, and the card's counters in $before0 and $before1.
load() {
  # What an earlier scenario left behind, whose namespace may still have one of them.
  killall -q sleep iperf3 ping || :
  there=''
  rmmod ixgbevf 2>/dev/null || rmmod igbvf 2>/dev/null || :
  # Hardware counts since its PF was reset, not since somebody loaded a driver.
  if [ "$line" ]; then
    host counters 0
    before0=${answer#ok }
    host counters 1
    before1=${answer#ok }
  fi
  modprobe "$(cat "/sys/bus/pci/devices/$pci0/modalias")"
  wait_for 20 net_of "$pci0" >/dev/null
  a=$(net_of "$pci0") b=''
  if [ -e "/sys/bus/pci/devices/$pci1" ]; then
    wait_for 20 net_of "$pci1" >/dev/null
    b=$(net_of "$pci1")
  fi
  driver=$(basename "$(readlink "/sys/bus/pci/devices/$pci0/driver")")
}

# apart: both up, with addresses 10.0.0.1 and 10.0.0.2, the second in a network namespace of its own ($there COMMAND…).
apart() {
  if [ -z "${there:-}" ]; then
    unshare -n sleep 100000 &
    space=$!
    there="nsenter -t $space -n"
    wait_for 5 sh -c "[ \$(readlink /proc/$space/ns/net) != \$(readlink /proc/self/ns/net) ]"
  fi
  ip link set "$b" netns "$space"
  ip addr add 10.0.0.1/24 dev "$a"
  $there /usr/bin/ip addr add 10.0.0.2/24 dev "$b"
  $there /usr/bin/ip link set lo up
  ip link set "$a" up
  $there /usr/bin/ip link set "$b" up
  wait_for 30 has_carrier "$a"
  wait_for 30 $there /usr/bin/grep -q 1 "/sys/class/net/$a/carrier" || :
  wait_for 30 ping -c 1 -W 1 10.0.0.2
}

# together: the second one back in this namespace, both down.
together() {
  ip link set "$a" down
  $there /usr/bin/ip link set "$b" down
  $there /usr/bin/ip link set "$b" netns 1
}

# From a bare PF to VFs that a program can have, by our own commands against the kernel: provision, list, doctor, bind and
# set; and what they refuse, with nothing changed by it.
. /vm/igb/card.sh
. /vm/tools/card.sh
modprobe igb
pf=$(find_device 8086:10c9)
wait_for 5 test -e "$devices/$pf/net"
pf_net=$(ls "$devices/$pf/net")
ip link set "$pf_net" up

check provision 20 vfnic provision "$pf_net" 4
check vfs-are-there 5 test "$(cat "$devices/$pf/sriov_numvfs")" = 4
vf0=$(address_of 0)
vf1=$(address_of 1)

check list 10 vfnic list
says list-has-them "$pf" "$vf0" "$vf1" "$(address_of 3)"
check list-json 10 vfnic list --style json
run 10 vfnic doctor "$vf0"
says doctor-unbound 'VF-[A-Z-]+' vfio-pci

# A dry run says what it would do and does nothing.
check bind-dry 10 vfnic bind "$vf0" --dry-run
says bind-dry-says 'driver_override'
check bind-dry-changes-nothing 5 test "$(driver_of "$vf0")" = none

# An interface with a route stays with its driver.
modprobe igbvf
bind "$vf1" igbvf
wait_for 5 test -e "$devices/$vf1/net"
net=$(ls "$devices/$vf1/net")
ip link set "$net" up
ip addr add 192.0.2.1/24 dev "$net"
# everything VF: what may not change.
everything() { ip -4 route; ip -4 addr show dev "$net" | grep inet; driver_of "$1"; cat "$devices/$1/driver_override"; }
before=$(everything "$vf1")
refused bind-routed 1 "$vf1 route|address|$net" vfnic bind "$vf1"
check routed-stays 5 test "$(driver_of "$vf1")" = igbvf -a "$(everything "$vf1")" = "$before"
ip addr flush dev "$net"
ip link set "$net" down

vfio_up
check bind 20 vfnic bind "$pf_net#0-3"
check all-are-bound 5 test "$(for n in 0 1 2 3; do driver_of "$(address_of $n)"; done | sort -u)" = vfio-pci
wait_for 30 has_carrier
check doctor-bound 20 vfnic doctor "$vf0"
check doctor-json 20 vfnic doctor "$vf0" --json

# The PF with its VFs stays too.
refused bind-pf 1 "$pf VFs" vfnic bind "$pf"
check pf-stays 5 test "$(driver_of "$pf")" = igb -a "$(cat "$devices/$pf/sriov_numvfs")" = 4

# Somebody has it.
vfnic watch --device "$vf0" --seconds 60 >/tmp/watch 2>&1 &
holder=$!
wait_for 15 grep -q LinkUp /tmp/watch
check list-holder 10 vfnic list
says holder-is-named "$vf0.*vfnic|vfnic.*$vf0|vfnic \(?(pid )?$holder"
refused unbind-held 1 "$vf0 held $holder" vfnic unbind "$vf0"
refused bind-held 1 "$vf0 held $holder" vfnic bind "$vf0"
refused reset-held 1 "$vf0 held $holder" vfnic reset "$pf_net#0"
refused provision-in-use 1 "$vf0 held" vfnic provision "$pf_net" 2
check held-stays 5 test "$(driver_of "$vf0")" = vfio-pci -a "$(cat "$devices/$pf/sriov_numvfs")" = 4
check holder-noticed-nothing 5 test "$(grep -c . /tmp/watch)" = "$(grep -c LinkUp /tmp/watch)"
stop "$holder"

# Free again: the kernel resets it, and it opens as ever.
check reset 20 vfnic reset "$pf#0-1"
says reset-by-the-kernel "$vf0: reset, .*flr" "$vf1: reset"
check probe-after-reset 20 vfnic probe --device "$vf0"
refused reset-pf 1 "$pf no.VF" vfnic reset "$pf"

# The PF's knobs, as iproute2 sees them.
set_and_see() {
  set_name=$1 set_pattern=$2
  shift 2
  check "set-$set_name" 10 vfnic set "$pf_net" vf "$@"
  run 5 /usr/bin/ip link show "$pf_net"
  says "ip-sees-$set_name" "$set_pattern"
}
set_and_see mac "vf 0 .*$mac_of_vf0" 0 mac "$mac_of_vf0"
set_and_see other-mac "vf 1 .*$mac_of_vf1" 1 mac "$mac_of_vf1"
set_and_see spoofchk 'vf 2 .*spoof checking off' 2 spoofchk off
set_and_see trust 'vf 3 .*trust on' 3 trust on
set_and_see vlan 'vf 3 .*vlan 200, qos 3' 3 vlan 200 qos 3
set_and_see no-vlan 'vf 3 .*spoof' 3 vlan 0
before=$(ip link show "$pf_net")
# igb has no link state of its own for a VF: what came before it is taken back.
refused set-state 1 "state nothing.is.changed" vfnic set "$pf_net" vf 2 trust on state disable
check refused-set-changes-nothing 5 test "$(ip link show "$pf_net")" = "$before"
refused set-no-such-vf 1 "9" vfnic set "$pf_net" vf 9 trust on

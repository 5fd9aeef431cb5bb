# What an administrator and a PF do to VFs in use, live: each time traffic comes back by itself.
. /vm/linux/card.sh
load
apart
alive() { check "$1" 40 sh -c 'until ping -q -c 2 -i 0.2 -W 1 10.0.0.2; do sleep 0.2; done'; }
dead() { check "$1" 20 sh -c '! ping -q -c 2 -i 0.2 -W 1 10.0.0.2'; }

for round in 1 2 3 4 5; do
  ip link set "$a" down
  ip link set "$a" up
done
alive down-and-up

# A port VLAN for one side parts them; without it they meet again.
card vf 1 vlan 5
sleep 1
dead port-vlan-apart
card vf 0 vlan 5
sleep 1
alive port-vlan-together
card vf 0 vlan 0
card vf 1 vlan 0
sleep 1
alive without-port-vlan

if [ "$driver" = ixgbevf ]; then
  card vf 0 state disable
  check state-disable 20 sh -c "until grep -q 0 /sys/class/net/$a/carrier; do sleep 0.1; done"
  card vf 0 state auto
  check state-auto 20 sh -c "until grep -q 1 /sys/class/net/$a/carrier; do sleep 0.1; done"
  alive after-state
fi
card pf link off
check cable-pulled 20 sh -c "until grep -q 0 /sys/class/net/$a/carrier; do sleep 0.1; done"
card pf link on
check cable-plugged 20 sh -c "until grep -q 1 /sys/class/net/$a/carrier; do sleep 0.1; done"
alive after-cable

# Twenty resets of the PF with a flood running.
ping -q -A -W 1 10.0.0.2 >/dev/null 2>&1 &
flood=$!
for round in $(seq 20); do
  card pf reset 50
  sleep 0.5
done
stop "$flood"
alive after-pf-resets
card pf down
sleep 3
card pf up
alive after-pf-down-and-up

# Twenty times out and in.
together
check reload 120 sh -c "for round in \$(seq 20); do rmmod $driver && modprobe $driver || exit 1; done"
load
apart
alive after-reloads

# One VF of a card whose other VF is in another guest: 10^5 frames and more between the two without a loss, TCP without bounds
# for as long as the bed says, and what is outside the card: the wire, and the host behind the PF's own port.
. /vm/linux/card.sh
seconds=$(sed -n 's/.*tcp_seconds=\([0-9]*\).*/\1/p' /proc/cmdline)
model=$(sed -n 's/.*card_model=\([a-z0-9]*\).*/\1/p' /proc/cmdline)
load
ethtool -G "$a" rx 4096 tx 4096
for place in 0.2 1.2 2.2; do ip addr add "10.0.$place/24" dev "$a"; done
ip link set "$a" up
wait_for 30 has_carrier "$a"
check finds-the-other-guest 90 sh -c 'until ping -q -c 1 -W 1 10.0.0.1; do :; done'
check finds-its-server 30 sh -c 'until iperf3 -c 10.0.0.1 -n 1K; do sleep 0.5; done'

# sums: what the card delivered to both VFs so far, and what it lost.
sums() {
  delivered=0 lost=0
  for side in 0 1; do
    host counters "$side"
    # shellcheck disable=SC2086 # words
    set -- $answer
    delivered=$((delivered + $2)) lost=$((lost + $4))
  done
}
# measure NAME IPERF3-ARG…: and what came through, with retransmissions or losses, as a remark.
measure() {
  measure_name=$1
  shift
  check "$measure_name" 170 iperf3 -f m "$@"
  echo "# $model $measure_name: $(grep -E 'sender|receiver' /tmp/out | tail -n 2 | cut -c 6- | tr -s ' \n' ' ')" >&3
}
# Windows that leave more descriptors than there can be frames on their way: a guest may not get its processor for a while.
for buffer in rmem_max wmem_max; do echo 16777216 >/proc/sys/net/core/$buffer; done
sums
delivered0=$delivered lost0=$lost
check flood 60 ping -q -A -c 1000 10.0.0.1
says flood-loses-none ' 0% packet loss'
measure tcp -c 10.0.0.1 -n 70M -w 96K
measure tcp-back -c 10.0.0.1 -n 70M -w 96K -R
measure udp -c 10.0.0.1 -t 3 -u -b 6M -l 1000 -w 8M
says udp-loses-none ' 0/[0-9]{4} \(0%\) +receiver'
sleep 1
sums
echo "# $model, two guests: $((delivered - delivered0)) frames delivered, $((lost - lost0)) lost" >&3
check frames 1 test "$((delivered - delivered0))" -ge 100000
check none-lost 1 test "$((lost - lost0))" = 0
# As fast as it goes: what a ring does not take is sent again.
[ "$seconds" = 0 ] || measure "tcp-for-$seconds-s" -c 10.0.0.1 -t "$seconds"
check ping-after 20 ping -q -c 5 -i 0.2 10.0.0.1
says ping-loses-none ' 0% packet loss'

if host outside there; then
  check wire-ping 20 sh -c 'until ping -q -c 1 -W 1 10.0.1.1; do :; done'
  check wire-flood 60 ping -q -A -c 1000 10.0.1.1
  says wire-flood-loses-none ' 0% packet loss'
  measure wire-tcp -c 10.0.1.1 -n 8M -w 96K
  measure wire-tcp-back -c 10.0.1.1 -n 8M -w 96K -R
  check host-ping 20 sh -c 'until ping -q -c 1 -W 1 10.0.2.1; do :; done'
  check host-flood 60 ping -q -A -c 1000 10.0.2.1
  says host-flood-loses-none ' 0% packet loss'
  # Somebody bridged to the PF's port: what he says arrives, and what he is told leaves by the wire, until the PF is told that
  # he is behind it.
  host outside bridged
  ip neigh flush dev "$a"
  host outside wire
  left=${answer##* }
  check neighbour-not-reached 20 sh -c '! ping -q -c 5 -i 0.2 -W 1 10.0.2.1'
  run 5 ip neigh show dev "$a"
  says neighbour-is-heard '10\.0\.2\.1 lladdr 02:00:00:00:0b:0b'
  host outside wire
  check neighbours-frames-leave-by-the-wire 1 test "$((${answer##* } - left))" -ge 5
  card pf fdb add 02:00:00:00:0b:0b
  check fdb-add 20 ping -q -c 5 -i 0.2 -W 1 10.0.2.1
  says fdb-add-loses-none ' 0% packet loss'
  card pf fdb del 02:00:00:00:0b:0b
  check fdb-del 20 sh -c '! ping -q -c 2 -i 0.2 -W 1 10.0.2.1'
fi
check through 10 sh -c 'echo through | nc -w 5 10.0.0.1 9000'

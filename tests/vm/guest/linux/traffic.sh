# Frames between the two VFs through the card's switch: every one counted by the driver is counted by the card.
. /vm/linux/card.sh
load
apart

# counted NAME: both interfaces' counters agree with the card's own count of what it delivered to and took from them.
counted() {
  sleep 3
  for side in 0 1; do
    if [ "$side" = 0 ]; then dev=$a inside=''; else dev=$b inside=$there; fi
    host counters "$side"
    # shellcheck disable=SC2046 # words: what there was before the driver was loaded, and what there is now
    set -- "$1" $(eval "echo \$before$side") ${answer#ok }
    $inside ethtool -S "$dev" >/tmp/out
    rx=$(awk '/^ *rx_packets:/ { print $2 }' /tmp/out) tx=$(awk '/^ *tx_packets:/ { print $2 }' /tmp/out)
    card_rx=$(($5 - $2)) card_tx=$(($6 - $3)) dropped=$(($7 - $4))
    if [ "$rx" = "$card_rx" ] && [ "$tx" = "$card_tx" ]; then
      pass "$1-side-$side" "$rx in, $tx out, $dropped dropped by the card"
    else
      fail "$1-side-$side" "driver $rx in, $tx out; card $card_rx, $card_tx; $dropped dropped"
    fi
  done
}

check ping 30 ping -q -c 20 -i 0.1 10.0.0.2
says ping-loses-none ' 0% packet loss'
check ping-large 30 ping -q -c 10 -i 0.1 -s 1472 10.0.0.2
check ping-in-fragments 30 ping -q -c 10 -i 0.1 -s 20000 10.0.0.2
check ping-flood 120 ping -q -A -c 5000 10.0.0.2
says flood-loses-none ' 0% packet loss'

$there iperf3 -s -D
sleep 1
# measure NAME IPERF3-ARG…: and what came through, with retransmissions or losses, as a remark.
measure() {
  measure_name=$1
  shift
  check "$measure_name" 90 iperf3 -c 10.0.0.2 -f m "$@"
  echo "# $measure_name: $(grep -E 'sender|receiver' /tmp/out | tail -n 2 | cut -c 6- | tr -s ' \n' ' ')" >&3
}
# 10^5 frames at a pace that a guest without hardware virtualisation keeps up with, none of them lost anywhere.
for buffer in rmem_max wmem_max; do echo 16777216 >/proc/sys/net/core/$buffer; done
measure udp -t 25 -u -b 34M -l 1000 -w 8M
says udp-loses-none '0/1[0-9]{5} \(0%\) +receiver'
measure tcp -t 10
measure tcp-back -t 10 -R
measure tcp-parallel -t 10 -P 4
counted counters

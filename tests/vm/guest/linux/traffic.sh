# Frames between the two VFs through the card's switch: none is lost, and every one counted by the driver is counted by the card.
. /vm/linux/card.sh
load
# As many descriptors as there can be: a guest without hardware virtualisation may not get its processor for a while.
ethtool -G "$a" rx 4096 tx 4096
ethtool -G "$b" rx 4096 tx 4096
apart
# What was dropped while one side was not up yet is no loss.
host counters 0
up0=${answer#ok }
host counters 1
up1=${answer#ok }

# counted NAME: both interfaces' counters agree with the card's own count of what it delivered to and took from them.
counted() {
  delivered=0 lost=0
  sleep 2
  for side in 0 1; do
    if [ "$side" = 0 ]; then dev=$a inside=''; else dev=$b inside=$there; fi
    host counters "$side"
    # shellcheck disable=SC2046 # words: what there was before the driver was loaded, when it was up, and what there is now
    set -- "$1" $(eval "echo \$before$side \$up$side") ${answer#ok }
    $inside ethtool -S "$dev" >/tmp/out
    rx=$(awk '/^ *rx_packets:/ { print $2 }' /tmp/out) tx=$(awk '/^ *tx_packets:/ { print $2 }' /tmp/out)
    card_rx=$(($8 - $2)) card_tx=$(($9 - $3))
    delivered=$((delivered + $8 - $5)) lost=$((lost + ${10} - $7))
    if [ "$rx" = "$card_rx" ] && [ "$tx" = "$card_tx" ]; then
      pass "$1-side-$side" "$rx in, $tx out"
    else
      fail "$1-side-$side" "driver $rx in, $tx out; card $card_rx, $card_tx"
    fi
  done
}

check ping 30 ping -q -c 20 -i 0.1 10.0.0.2
says ping-loses-none ' 0% packet loss'
check ping-large 30 ping -q -c 10 -i 0.1 -s 1472 10.0.0.2
check ping-in-fragments 30 ping -q -c 10 -i 0.1 -s 20000 10.0.0.2
check ping-flood 60 ping -q -A -c 2000 10.0.0.2
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
# At a pace, and with windows, that leave more descriptors than there can be frames on their way.
for buffer in rmem_max wmem_max; do echo 16777216 >/proc/sys/net/core/$buffer; done
for way in udp udp-back; do
  measure $way -t 6 -u -b 6M -l 1000 -w 8M $([ $way = udp ] || echo -R)
  says $way-loses-none ' 0/[0-9]{4} \(0%\) +receiver'
done
measure tcp -n 12M -w 96K
measure tcp-back -n 12M -w 96K -R
measure tcp-parallel -n 12M -w 48K -M 536 -P 4
counted counters
check frames 1 test "$delivered" -ge 20000
check none-lost 1 test "$lost" = 0
echo "# $delivered frames delivered, $lost lost" >&3

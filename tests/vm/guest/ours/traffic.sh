# Traffic between the two VFs through the card's switch, both ways at once, every frame with a sequence number that `vfnic
# check` follows: 5 · 10^4 frames each way in each of the three modes, then other sizes, VLANs, and the offloads, whose
# results are compared byte by byte with those made in software.
. /vm/ours/card.sh

# traffic NAME FRAMES OPTION…: that many frames each way, by the exit status and by the counts it prints.
traffic() {
  traffic_name=$1 traffic_frames=$2
  shift 2
  check "$traffic_name" 60 vfnic check --device "$vf0" --peer "$vf1" --frames "$traffic_frames" --json "$@"
  if counts_are_clean $((2 * traffic_frames)); then pass "$traffic_name-counts"; else fail "$traffic_name-counts" "not all of them received, or something lost, duplicated, reordered or corrupted"; fi
}

# counts_are_clean FRAMES: the JSON in /tmp/out tells of so many frames received, and of none that went wrong; adds to the
# sums of this scenario.
counts_are_clean() {
  counts=$(tr ',{}' '\n' </tmp/out | awk -F: '
    /"(lost|duplicated|reordered|corrupted)"/ { fields++; wrong += $2 }
    /"received"/ { received += $2 }
    END { print fields + 0, wrong + 0, received + 0 }')
  # shellcheck disable=SC2086 # words
  set -- "$1" $counts
  all_wrong=$((all_wrong + $3)) all_received=$((all_received + $4))
  [ "$2" -ge 4 ] && [ "$3" = 0 ] && [ "$4" -ge "$1" ]
}
all_wrong=0 all_received=0

for mode in poll interrupt adaptive; do
  traffic "$mode" 50000 --mode "$mode" --frame 64
done
traffic full-size 10000 --frame 1518
traffic imix 10000 --frame imix
traffic vlan 10000 --vlan 100
for offload in none vlan csum tso; do
  check "offload-$offload" 30 \
    vfnic check --device "$vf0" --peer "$vf1" --frames 500 --offload "$offload" --vlan 100
done
card pf mtu 9000
sleep 1
traffic jumbo 5000 --frame 9000
traffic jumbo-vlan 5000 --frame 9000 --vlan 4094
check offload-jumbo-tso 30 vfnic check --device "$vf0" --peer "$vf1" --frames 300 --offload tso --frame 9000
card pf mtu 1500
echo "# $model: $all_received frames followed, $all_wrong of them lost, duplicated, reordered or corrupted" >&3

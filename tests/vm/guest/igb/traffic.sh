# Traffic between the two VFs through QEMU's switch, both ways at once, every frame with a sequence number that `vfnic
# check` follows: 10^6 frames each way in each of the three modes, then other sizes, VLANs, and the offloads, whose
# results are compared byte by byte with those made in software.
. /vm/igb/card.sh
card_up
ip link set "$pf_net" mtu 9000
card_ready

# traffic NAME SECONDS FRAMES OPTION…: that many frames each way, by the exit status and by the counts it prints.
traffic() {
  traffic_name=$1 traffic_seconds=$2 traffic_frames=$3
  shift 3
  check "$traffic_name" "$traffic_seconds" \
    vfnic check --device "$vf0" --peer "$vf1" --frames "$traffic_frames" --json "$@"
  if counts_are_clean $((2 * traffic_frames)); then pass "$traffic_name-counts"; else fail "$traffic_name-counts" "not all of them received, or something lost, duplicated, reordered or corrupted"; fi
}

# counts_are_clean FRAMES: the JSON in /tmp/out tells of so many frames received, and of none that went wrong.
counts_are_clean() {
  tr ',{}' '\n' </tmp/out | awk -F: -v frames="$1" '
    /"(lost|duplicated|reordered|corrupted)"/ { fields++; wrong += $2 }
    /"received"/ { received += $2 }
    END { exit !(fields >= 4 && wrong == 0 && received >= frames) }'
}

for mode in poll interrupt adaptive; do
  traffic "$mode" 90 1000000 --mode "$mode" --frame 64
done
traffic full-size 30 50000 --frame 1518
traffic imix 30 50000 --frame imix
traffic jumbo 30 10000 --frame 9000
traffic vlan 30 50000 --vlan 100
traffic jumbo-vlan 30 10000 --frame 9000 --vlan 4094
for offload in none vlan csum tso; do
  check "offload-$offload" 30 \
    vfnic check --device "$vf0" --peer "$vf1" --frames 2000 --offload "$offload" --vlan 100
done
check offload-jumbo-tso 30 vfnic check --device "$vf0" --peer "$vf1" --frames 2000 --offload tso --frame 9000

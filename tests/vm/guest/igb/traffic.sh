# Traffic between the two VFs through QEMU's switch, both ways at once, every frame with a sequence number that `vfnic
# check` follows: 10^6 frames each way in each of the three modes, then other sizes, VLANs, and the offloads, whose
# results are compared byte by byte with those made in software.
. /vm/igb/card.sh
card_up
ip link set "$pf_net" mtu 9000
card_ready

# traffic NAME SECONDS FRAMES OPTION…: that many frames each way, by the exit status and by the counts too.
traffic() {
  traffic_name=$1 traffic_seconds=$2 traffic_frames=$3
  shift 3
  check "$traffic_name" "$traffic_seconds" \
    vfnic check --device "$vf0" --peer "$vf1" --frames "$traffic_frames" --json "$@"
  says "$traffic_name-counts" '"lost": *0[,}]' '"duplicated": *0[,}]' '"reordered": *0[,}]' '"corrupted": *0[,}]'
}

for mode in poll interrupt adaptive; do
  traffic "$mode" 90 1000000 --mode "$mode" --frame 64
done
traffic full-size 30 50000 --frame 1518
traffic imix 30 50000 --frame imix
traffic jumbo 30 10000 --frame 9000
traffic vlan 30 50000 --vlan 100
traffic jumbo-vlan 30 10000 --frame 9000 --vlan 4094
traffic offload-vlan 30 10000 --offload vlan --vlan 100
traffic offload-csum 30 10000 --offload csum
traffic offload-tso 30 2000 --offload tso

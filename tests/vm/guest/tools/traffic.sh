# The traffic tools between VFs, each a process of its own: capture, sink, fwd, echo, ping, stats and bench.
. /vm/igb/card.sh
. /vm/tools/card.sh
pf=$(find_device 8086:10c9)
pf_net=$(ls "$devices/$pf/net")
vf0=$(address_of 0)
vf1=$(address_of 1)
vf2=$(address_of 2)
vf3=$(address_of 3)

# A capture of frames that tshark's own tool made; what is in it goes to the host.
if [ -e /frames.pcap ]; then
  begin /tmp/capture vfnic capture --device "$vf1" --vlan 100 --write /tmp/c.pcapng --count 30 --duration 40s --json
  capture=$!
  wait_for 20 test -s /tmp/c.pcapng
  sleep 1
  check gen-replays 30 vfnic gen --device "$vf0" --pcap /frames.pcap --rate 200 --json
  done_in capture 40 "$capture" /tmp/capture
  says captured-all '"captured":30'
  stty -F /dev/ttyS2 raw
  base64 /tmp/c.pcapng >/dev/ttyS2
fi

# No more frames than a ring holds: a guest that does not get to run for a second sends what is due all at once, and QEMU's
# card drops what finds no descriptor.
begin /tmp/sink vfnic sink --device "$vf1" --sent 2000 --latency --duration 60s --json
sink=$!
sleep 3
check gen 60 vfnic gen --device "$vf0" --to "$mac_of_vf1" --rate 2k --count 2000 --json
says gen-sent-all '"sent":2000' '"gap_ns":\{"min"' '"ended_by":"count"'
done_in sink 40 "$sink" /tmp/sink
says sink-got-all '"received":2000' '"missing":0' '"corrupted":0' '"duplicated":0'

# Two ports: from the first VF in on the third, out of the fourth, to the second.
begin /tmp/sink vfnic sink --device "$vf1" --sent 2000 --duration 60s --json --frame imix
sink=$!
begin /tmp/fwd vfnic fwd "$vf2" "$vf3" --to "$mac_of_vf1" --ring 2048 --json
forwarder=$!
vfnic set "$pf_net" vf 2 mac 02:0a:00:00:00:0c
sleep 4
check gen-to-fwd 60 vfnic gen --device "$vf0" --to 02:0a:00:00:00:0c --rate 2k --count 2000 --frame imix --json
done_in sink-behind-fwd 40 "$sink" /tmp/sink
says sink-behind-fwd-got-all '"received":2000' '"missing":0' '"corrupted":0'
kill -INT "$forwarder"
done_in fwd 20 "$forwarder" /tmp/fwd
says fwd-forwarded-all '"forwarded":2000' '"zero_copy":true'

begin /tmp/echo vfnic echo --device "$vf1" --address 192.0.2.1 --json
echo=$!
sleep 3
check ping-echo 30 vfnic ping --device "$vf0" --address 192.0.2.9/24 192.0.2.1 --count 5
kill -INT "$echo"
done_in echo 20 "$echo" /tmp/echo
says echo-answered '"icmp":5'

check bench-throughput 60 vfnic bench throughput --device "$vf0" --peer "$vf1" --frame 64,1518 --duration 1s --rate 5k --html /tmp/t.html
says bench-says-what-passed '^ +64 .*kpps' '^ +1518 '
check bench-page 5 grep -q '</html>' /tmp/t.html
check bench-ring 60 vfnic bench ring --burst 32 --ring 512 --op fwd --repetitions 1
# No server in this network: what is missing is named.
refused no-dhcp-server 1 "$vf0|DHCP no.DHCP.server|nothing.comes.in|questions" vfnic ping --device "$vf0" --dhcp

check stats 20 vfnic stats --device "$vf0" --json
says stats-counts '"rx_packets"' '"link_up":true'
check selftest 60 vfnic selftest --device "$vf0" --peer "$vf1"

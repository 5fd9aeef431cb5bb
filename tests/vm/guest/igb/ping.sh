# Packets to somebody else's stack: ARP and ICMP echo with the network behind QEMU, in every mode, and what it says when
# nobody answers.
. /vm/igb/card.sh
card_ready
for mode in poll interrupt adaptive; do
  check "$mode" 30 vfnic ping --device "$vf0" --address 10.0.2.15/24 --mode "$mode" --count 5 10.0.2.2
done
check second-vf 30 vfnic ping --device "$vf1" --address 10.0.2.16/24 --count 5 10.0.2.2
refused no-answer 1 "10.0.2.77" vfnic ping --device "$vf0" --address 10.0.2.15/24 --count 1 --timeout 2 10.0.2.77
refused other-network 1 "192.0.2.1" vfnic ping --device "$vf0" --address 10.0.2.15/24 --count 1 --timeout 2 192.0.2.1
refused bad-address 2 "10.0.2" vfnic ping --device "$vf0" 10.0.2
# Its queues and mappings die with a process that is killed in the middle of its traffic; the next one is not disturbed.
vfnic ping --device "$vf0" --address 10.0.2.15/24 --count 100000 10.0.2.2 >/tmp/ping 2>&1 &
sleep 2
stop $!
check after-kill 30 vfnic ping --device "$vf0" --address 10.0.2.15/24 --count 5 10.0.2.2
# An address from QEMU's DHCP server, which is nobody of ours; what it routes through answers.
check dhcp 30 vfnic ping --device "$vf0" --dhcp --count 3
says dhcp-says-what-it-got '10\.0\.2\.[0-9]+/24' 'router 10\.0\.2\.2' '3 answered'

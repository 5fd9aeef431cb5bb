# One VF of a card whose other VF is in another guest: TCP between the two, for as long as the bed says.
. /vm/linux/card.sh
seconds=$(sed -n 's/.*tcp_seconds=\([0-9]*\).*/\1/p' /proc/cmdline)
load
ip addr add 10.0.0.2/24 dev "$a"
ip link set "$a" up
wait_for 30 has_carrier "$a"
check finds-the-other-guest 60 sh -c 'until ping -q -c 1 -W 1 10.0.0.1; do :; done'
sleep 3
check "tcp-for-$seconds-s" $((seconds * 2 + 30)) iperf3 -c 10.0.0.1 -f m -t "$seconds"
echo "# tcp: $(grep -E 'sender|receiver' /tmp/out | tail -n 2 | cut -c 6- | tr -s ' \n' ' ')" >&3
check ping-after 20 ping -q -c 5 -i 0.2 10.0.0.1
says ping-loses-none ' 0% packet loss'

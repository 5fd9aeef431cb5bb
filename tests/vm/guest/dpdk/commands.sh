# What an operator types: addresses, VLANs, MTU, promiscuous mode, checksums and segmentation, ports stopped and started.
. /vm/dpdk/testpmd.sh

commands() {
  echo show port info 0
  echo mac_addr add 0 02:00:00:00:00:1a
  echo show port 0 macs
  echo mac_addr remove 0 02:00:00:00:00:1a
  echo vlan set filter on 0
  echo rx_vlan add 100 0
  echo rx_vlan rm 100 0
  echo vlan set strip on 0
  echo vlan set strip off 0
  echo set allmulti 0 on
  echo set allmulti 0 off
  echo set promisc 0 on
  echo set promisc 0 off
  echo start tx_first
  frames 2000
  echo stop
  echo port stop all
  echo port config mtu 0 1400
  echo port config mtu 1 1400
  echo csum set ip hw 0
  echo csum set udp hw 0
  echo csum set ip hw 1
  echo csum set udp hw 1
  echo tso set 800 0
  echo port start all
  echo show port info 0
  echo set fwd csum
  echo start tx_first
  frames 20000
  echo stop
  echo show port 0 tx_offload configuration
  for _ in 1 2 3; do
    echo port stop all
    echo port start all
  done
  echo set fwd mac
  echo start tx_first
  frames 20000
  echo stop
  echo show port xstats 0
}
# Only then may a VF whose address the administrator chose have another beside it.
card vf 0 trust on
session commands 90 commands --
card vf 0 trust off
# net_e1000_igb_vf has neither operation, and says so.
if [ "$pmd" = net_ixgbe_vf ]; then
  says mtu 'MTU: 1400'
  says extra-address 'Number of MAC address added: 2' '^ *02:00:00:00:00:1A'
else
  says no-mtu-or-extra-address 'mac_addr_cmd error: .Operation not supported' 'Set MTU failed'
fi
says checksums-in-hardware 'IP checksum offload is hw' 'UDP checksum offload is hw'
says segmentation 'segment size for non-tunneled packets is 800'

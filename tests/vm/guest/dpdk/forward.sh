# Frames round and round through both VFs and the card's switch, by the paths that the driver has: each frame that is
# lost would be missing from the sums.
. /vm/dpdk/testpmd.sh

forward() {
  echo start tx_first 4
  frames 110000
  drain
  echo show port stats all
}
# rounds NAME OPTION…: such a session, and its balance: 4 bursts of 32 frames each way go round.
rounds() {
  begin
  rounds_name=$1
  shift
  session "$rounds_name" 60 forward "$@"
  whole "$rounds_name-sums" 110000 256
}

case $pmd in
  net_ixgbe_vf)
    rounds vector --
    says is-vector 'Vector.* rx|rx.* vector' 'Vector tx'
    rounds scalar --force-max-simd-bitwidth=64 --
    ;;
  # Has one path only.
  *) rounds plain -- ;;
esac
says driver "Probe PCI driver: $pmd .* device: $vf0"
# With what needs the full descriptors: checksums verified, tags taken off, frames in several buffers.
rounds offloads -- --enable-rx-cksum --enable-hw-vlan-strip --enable-scatter

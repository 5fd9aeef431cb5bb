# testpmd as scenarios run it: on both VFs, each with vfio-pci, one core for its prompt and one that forwards. Sourced;
# makes no checks.
. /vm/igb/card.sh
. /vm/linux/card.sh

vf0=$pci0 vf1=$pci1
mac0=02:00:00:00:00:0a mac1=02:00:00:00:00:0b
model=$(sed -n 's/.*card_model=\([a-z0-9]*\).*/\1/p' /proc/cmdline)
case $model in
  82576 | i350) pmd=net_e1000_igb_vf pmd_log='pmd.net.e1000*' ;;
  *) pmd=net_ixgbe_vf pmd_log='pmd.net.ixgbe*' ;;
esac

vfio_up
for vf in "$vf0" "$vf1"; do
  [ "$(driver_of "$vf")" = vfio-pci ] || bind "$vf" vfio-pci
done
if [ ! -d /hp ]; then
  mkdir -p /hp /var/run
  mount -t hugetlbfs hp /hp
  echo 48 >/proc/sys/vm/nr_hugepages
  ip link set lo up
  card vf 0 mac "$mac0"
  card vf 1 mac "$mac1"
fi
drivers=''
for library in /usr/lib/dpdk/*; do drivers="$drivers -d $library"; done

# session NAME SECONDS COMMANDS-FUNCTION EAL-OPTION… -- OPTION…: testpmd in its interactive mode, with what the function
# prints as its input; it ends well, in time, and the frames waited for came. What it printed is in /tmp/out, without what it was
# asked. $vfs and $peers are other ports and neighbours than the two VFs.
session() {
  session_name=$1 session_seconds=$2 session_commands=$3
  shift 3
  eal=''
  while [ "$1" != -- ]; do eal="$eal $1"; shift; done
  shift
  echo "+ testpmd $eal -- $*"
  session_status=0
  rm -f /tmp/missing
  # shellcheck disable=SC2086 # words
  { "$session_commands"; echo stop; echo quit; } | timeout -k 5 "$session_seconds" \
    dpdk-testpmd $drivers ${cores:--l 0,1} --huge-dir /hp -m 64 --in-memory --log-level="$pmd_log:debug" --log-level=bus.pci:info ${vfs:--a $vf0 -a $vf1} $eal -- \
    -i --forward-mode=mac ${peers:---eth-peer=0,$mac1 --eth-peer=1,$mac0} --no-flush-rx --total-num-mbufs=8192 "$@" \
    >/tmp/all 2>&1 || session_status=$?
  grep -Ev 'PMD_INIT_FUNC_TRACE|src=.* - dst=' /tmp/all || :
  sed 's/\r//; s/^testpmd> .*//' /tmp/all >/tmp/out
  if [ "$session_status" = 0 ] && [ ! -e /tmp/missing ]; then
    pass "$session_name"
  else
    fail "$session_name" "exit status $session_status$(cat /tmp/missing 2>/dev/null)"
  fi
}

# What the card has counted for a VF: in $received, $sent and $dropped.
count() {
  host counters "$1" >&2
  # shellcheck disable=SC2086 # words
  set -- $answer
  received=$2 sent=$3 dropped=$4
}

# In a session's commands: until each VF has received so many frames more.
frames() {
  count 0
  frames_end0=$((received + $1))
  count 1
  frames_end1=$((received + $1))
  for _ in $(seq 300); do
    count 0
    if [ "$received" -ge "$frames_end0" ]; then
      count 1
      [ "$received" -lt "$frames_end1" ] || return 0
    fi
    sleep 0.2
  done
  echo ", $1 frames waited for in vain" >>/tmp/missing
}

# begin: what the card counts from here on is this session's.
begin() {
  count 0
  received0=$received sent0=$sent dropped0=$dropped
  count 1
  received1=$received sent1=$sent dropped1=$dropped
}
# In a session's commands: takes what is still under way off the rings, and shows each frame.
drain() {
  echo stop
  echo set fwd rxonly
  echo set verbose 1
  echo start
  sleep 1
  echo stop
  echo set verbose 0
}
# whole NAME FRAMES UNDER-WAY: since begin, at least so many frames went each way, everything that one sent the other got,
# the card dropped none and testpmd dropped none; and what drain took off the rings, frame by frame, are as many as the
# session sent on their way at its start: had one been lost on its many rounds, in the card or in a ring, it would be missing.
whole() {
  count 0
  in0=$((received - received0)) out0=$((sent - sent0)) lost=$((dropped - dropped0))
  count 1
  in1=$((received - received1)) out1=$((sent - sent1)) lost=$((lost + dropped - dropped1))
  left=$(grep -c 'src=.* - dst=' /tmp/out) || :
  soft=$(awk '{ for (i = 1; i < NF; i++) if ($i ~ /dropped:$/) dropped += $(i + 1) } END { print dropped + 0 }' /tmp/out)
  detail="$in0 and $in1 frames in, $out1 and $out0 out, $lost dropped by the card, $soft by testpmd; $left of $3 still go round"
  if [ "$in0" -ge "$2" ] && [ "$in1" -ge "$2" ] && [ "$in0" = "$out1" ] && [ "$in1" = "$out0" ] && [ "$lost" = 0 ] &&
    [ "$soft" = 0 ] && [ "$left" = "$3" ]; then
    pass "$1" "$detail"
    echo "# $model $1: $((in0 + in1)) frames, $lost lost" >&3
  else
    fail "$1" "$detail"
  fi
}

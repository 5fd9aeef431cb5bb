# SIGKILL at any moment of opening, configuring and traffic: the kernel stops the DMA (a DMAR line would say that it did
# not), and whoever opens the VFs next finds them working.
. /vm/ours/card.sh

for round in $(seq 20); do
  vfnic check --device "$vf0" --peer "$vf1" --frames 100000000 >/tmp/killed 2>&1 &
  victim=$!
  # Every other one while it opens.
  case $((round % 2)) in
    0) sleep "0.0$((RANDOM % 100))" ;;
    *) sleep "1.$((RANDOM % 10))" ;;
  esac
  stop "$victim"
  check "works-after-kill-$round" 60 vfnic check --device "$vf0" --peer "$vf1" --frames 1000
done

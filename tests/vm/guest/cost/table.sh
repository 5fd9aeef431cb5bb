# The figures side by side, and the bars they are held to.
awk '
  { cost[$1] = $2; order[NR] = $1 }
  END {
    ours = cost["vfnic-fwd-burst-32"]
    if (!ours) exit
    printf "# %-28s %12s %8s\n", "forwarder", "instructions", "ratio"
    for (i = 1; i <= NR; i++) printf "# %-28s %12.1f %8.1f\n", order[i], cost[order[i]], cost[order[i]] / ours
  }' /tmp/cost | tee -a /dev/console >&3
# Nobody's figure has looks that found nothing in it: testpmd counts the rounds that had frames, AF_PACKET's forwarder sleeps.
[ ! -e /tmp/looks ] || sed 's/^/# /' /tmp/looks | tee -a /dev/console >&3
ratio() {
  check "$1" 5 awk -v name="$2" -v least="$3" '
    { cost[$1] = $2 }
    END { ratio = cost[name] / cost["vfnic-fwd-burst-32"]; print ratio; exit !(ratio >= least) }' /tmp/cost
}
ratio a-fifth-of-testpmd testpmd-mac-cost 5
ratio a-fortieth-of-af-packet af-packet-v3 40

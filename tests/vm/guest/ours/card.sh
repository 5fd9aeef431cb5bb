# The simulated card as our driver's scenarios see it: two VFs, each alone on its bus and in its IOMMU group, both with
# vfio-pci; the host's line turns the knobs that an administrator would (`card`). Sourced; makes no checks.
. /vm/igb/card.sh
. /vm/linux/card.sh

vf0=$pci0 vf1=$pci1
model=$(sed -n 's/.*card_model=\([a-z0-9]*\).*/\1/p' /proc/cmdline)
case $model in
  82576 | i350) kernel_driver=igbvf mbps=1000 ;;
  *) kernel_driver=ixgbevf mbps=10000 ;;
esac

vfio_up
for vf in "$vf0" "$vf1"; do
  [ "$(driver_of "$vf")" = vfio-pci ] || bind "$vf" vfio-pci
done

# start_watch: a watcher of the first VF, whose events are appended to /tmp/watch, so that emptying it starts a new page.
start_watch() {
  : >/tmp/watch
  vfnic watch --device "$vf0" --seconds 120 >>/tmp/watch 2>&1 &
  watch=$!
}
# seen NAME SECONDS PATTERN: the watcher printed such a line in time.
seen() {
  seen_start=$(now)
  if wait_for "$2" grep -Eq "$3" /tmp/watch; then
    pass "$1" "$(since "$seen_start")"
  else
    cp /tmp/watch /tmp/out
    fail "$1" "no /$3/ within $2 s"
  fi
}

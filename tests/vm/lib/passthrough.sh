# A served card behind an IOMMU of the guest's, for drivers in the guest's user space. Sourced after card.sh.

# What QEMU needs besides $card_machine: an emulated VT-d, before any device that it is to translate for.
card_iommu=(-machine kernel-irqchip=split -device intel-iommu,intremap=on,caching-mode=on)

# card_in_order: the VFs added so far see the driver's writes in the order of one bus. Two sockets only keep writes to two
# functions in order when each is waited for; else frames for a VF overtake the tail that makes room for them.
card_in_order() {
  card_devices=("${card_devices[@]/'{"driver"'/'{"x-no-posted-writes":true,"driver"'}")
}

# on_every_model GUEST: runs the function GUEST MODEL for all five models (or those of $CARD_MODELS), two at a time.
on_every_model() {
  local guest=$1 models lane
  read -ra models <<<"${CARD_MODELS:-82576 i350 82599 x540 x550}"
  for lane in 0 1; do
    card_lane "$guest" "$lane" "${models[@]}" &
  done
  wait
}

# card_lane GUEST LANE MODEL…: every second of the models, one after the other.
card_lane() {
  local guest=$1 model
  shift $((2 + $2))
  while (($#)); do
    model=$1
    "$guest" "$model" &
    wait "$!" || failed "vm $bed/$model: stopped before its end"
    shift $(($# > 1 ? 2 : 1))
  done
}

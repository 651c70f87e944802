#!/bin/busybox sh
# The first process of a machine with a disk: finds it, and hands over to systemd there.
b=/bin/busybox

$b mount -t devtmpfs devtmpfs /dev
$b mount -t proc proc /proc
for module in /modules/*; do
    $b insmod "$module" || echo "cannot load $module"
done
$b mount -t ext4 /dev/vda /new
$b mount -t tmpfs tmpfs /new/job
$b cp -a /job/. /new/job/
$b umount /proc
$b mount -o move /dev /new/dev
exec $b switch_root /new /lib/systemd/systemd

#!/bin/busybox sh
# The emulated board's first program: makes a small Linux of the unpacked archive, then hands over to init.
# Any failure ends it, which the kernel answers with a panic and QEMU with its end: the host sees a dead board.
set -e
export PATH=/usr/sbin:/usr/bin

/bin/busybox --install -s /usr/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
# All files are RAM: leave a quarter of it to programs whatever is uploaded. The homes are a file system of their
# own, because df knows no free space of the kernel's first root.
mount -t tmpfs -o mode=755,size=75% homes /mnt
cp -a /home/. /mnt
mount -o move /mnt /home
mount -o remount,size=75% /
chmod 755 /

for module in /lib/modules/*.ko; do
    insmod "$module"
done
hostname edgeq-board
ifconfig lo 127.0.0.1 up
# The address that QEMU's user network forwards to.
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up

# Every user may count instructions in user space; Debian's default of 3 forbids it.
echo 2 > /proc/sys/kernel/perf_event_paranoid

exec init

package rawfs

import "golang.org/x/sys/unix"

// The call has another name on this machine.
const sysFstatat = unix.SYS_NEWFSTATAT

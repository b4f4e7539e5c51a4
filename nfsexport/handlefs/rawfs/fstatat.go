//go:build !amd64

package rawfs

import "golang.org/x/sys/unix"

const sysFstatat = unix.SYS_FSTATAT

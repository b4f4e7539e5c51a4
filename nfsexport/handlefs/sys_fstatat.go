//go:build !amd64

package handlefs

import "golang.org/x/sys/unix"

const sysFstatat = unix.SYS_FSTATAT

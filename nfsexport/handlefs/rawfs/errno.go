package rawfs

import "golang.org/x/sys/unix"

// Errno gives the number of an error of package unix: 0 of nil, EIO of what is none.
func Errno(err error) unix.Errno {
	if err == nil {
		return 0
	}
	if e, ok := err.(unix.Errno); ok { //nolint:errorlint // x/sys/unix gives bare errnos
		return e
	}
	return unix.EIO
}

// Package rawfs makes the system calls of file systems by descriptor, without allocating
// and without EINTR.
package rawfs

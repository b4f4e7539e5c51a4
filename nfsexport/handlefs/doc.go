// Package handlefs serves mounted overlays as an nfs3.FS by the kernel's own file handles.
package handlefs

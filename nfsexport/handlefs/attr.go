package handlefs

import (
	"golang.org/x/sys/unix"

	"rubus/nfsexport/nfs3"
)

func fileType(mode uint32) nfs3.FileType {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return nfs3.TypeDir
	case unix.S_IFBLK:
		return nfs3.TypeBlock
	case unix.S_IFCHR:
		return nfs3.TypeChar
	case unix.S_IFLNK:
		return nfs3.TypeLink
	case unix.S_IFSOCK:
		return nfs3.TypeSocket
	case unix.S_IFIFO:
		return nfs3.TypeFifo
	default:
		return nfs3.TypeReg
	}
}

// wireTime keeps the low 32 bits of the seconds, as the kernel's server does:
// the protocol has no more.
func wireTime(t unix.Timespec) nfs3.Time {
	return nfs3.Time{Sec: uint32(t.Sec), Nsec: uint32(t.Nsec)}
}

// attr fills a. The fsid is the export's: the overlay's st_dev changes with
// every mount, and a client takes a change for a mount point.
func (o *op) attr(st *unix.Stat_t, a *nfs3.Attr) {
	*a = nfs3.Attr{
		Type: fileType(st.Mode), Mode: st.Mode & 0o7777, Nlink: uint32(st.Nlink), UID: st.Uid, GID: st.Gid,
		Size: uint64(st.Size), Used: uint64(st.Blocks) * 512, FSID: uint64(o.exp.ID), FileID: st.Ino,
		Atime: wireTime(st.Atim), Mtime: wireTime(st.Mtim), Ctime: wireTime(st.Ctim),
	}
	if t := st.Mode & unix.S_IFMT; t == unix.S_IFCHR || t == unix.S_IFBLK {
		a.Major, a.Minor = unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))
	}
}

func (o *op) post(st *unix.Stat_t, a *nfs3.PostAttr) {
	a.OK = true
	o.attr(st, &a.Attr)
}

func pre(st *unix.Stat_t, a *nfs3.PreAttr) {
	*a = nfs3.PreAttr{OK: true, Size: uint64(st.Size), Mtime: wireTime(st.Mtim), Ctime: wireTime(st.Ctim)}
}

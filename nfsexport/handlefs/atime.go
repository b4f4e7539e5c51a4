package handlefs

import (
	"time"

	"golang.org/x/sys/unix"

	"rubus/nfsexport/nfs3"
)

// A read may move the time of a file's last access: the kernel says when, by the flags
// of the overlay's mount (as a rule ST_RELATIME), and it never does in a lower file.

// The flags of statfs(2) that say when a mount moves access times.
const (
	stNoAtime  = 0x400
	stRelAtime = 0x1000
)

// access begins a read of obj, a regular file with the attributes o.st, and says
// whether accessed must follow.
func (o *op) access(obj *object) bool {
	if o.exp.root.flags&stNoAtime != 0 || o.exp.root.flags&stRelAtime != 0 && !o.isDue() {
		return false
	}
	o.altersFile(obj)
	return true
}

// isDue says whether the kernel would move the access time (relatime_need_update):
// when it is not after the other two, or a day ago.
func (o *op) isDue() bool {
	const soon = time.Hour // our clock and the kernel's need not agree
	atime := o.st.Atim.Nano()
	return atime <= o.st.Mtim.Nano() || atime <= o.st.Ctim.Nano() || o.now().UnixNano()-atime >= int64(24*time.Hour-soon)
}

// accessed ends the read, and fills a with the attributes after it.
func (o *op) accessed(obj *object, a *nfs3.PostAttr) {
	var st unix.Stat_t
	e := o.read(obj, &st, &o.alter)
	o.altered()
	if e != 0 {
		return
	}
	o.post(&st, a)
}

package handlefs

import (
	"time"

	"golang.org/x/sys/unix"
)

// A read may move the time of a file's last access: the kernel says when, by the flags
// of the overlay's mount (as a rule ST_RELATIME), and it never does in a lower file. A
// lower file is not told from others here; it is seen that its time does not move.

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
	if n, calm := o.exp.root.tree.Shape(); calm && obj.still.Load() == n+1 {
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

// accessed ends the read, and looks at what became of the time. When it was due and
// stays what it was before, it stays until the file is copied up; unless it is of now.
func (o *op) accessed(obj *object) {
	const old = 2 * time.Second // a file system may keep whole seconds
	n, calm := o.exp.root.tree.Shape()
	var st unix.Stat_t
	e := o.read(obj, &st, &o.alter)
	o.altered()
	if age := o.now().UnixNano() - st.Atim.Nano(); e == 0 && calm && st.Atim == o.st.Atim && age > int64(old) {
		obj.still.Store(n + 1)
	}
}

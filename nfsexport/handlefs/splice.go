package handlefs

// spliceFrom is the least read that costs less when its data is not copied.
const spliceFrom = 32 << 10

// splice has n bytes of the call's file sent from its pages, if nobody writes to these.
// What cannot be read pread will say. It gives the number of bytes; 0: none.
func (o *op) splice(fd int, off uint64, n int) int {
	n = int(min(uint64(n), uint64(o.st.Size)-off))
	if o.c.Splice == nil || n < spliceFrom || o.obj.rw.Load() >= 0 || !o.golden(o.obj) {
		return 0
	}
	return o.c.Splice(fd, int64(off), n)
}

// golden says whether a file is a layer's, and was not copied up: layers do not change.
// (While it is written to for the first time its client may be sent what it writes, as by
// any server.) That holds for as long as nothing in the root was copied up.
func (o *op) golden(obj *object) bool {
	n, calm := o.exp.tree.Shape()
	if calm && obj.lower.Load() == n+1 {
		return true
	}
	if o.exp.root.index < 0 || o.inUpper(&obj.key) {
		return false
	}
	if calm {
		obj.lower.Store(n + 1)
	}
	return true
}
